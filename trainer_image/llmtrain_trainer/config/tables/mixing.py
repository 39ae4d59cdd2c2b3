"""What an epoch of several datasets is."""

from __future__ import annotations

from typing import Literal

Mixing = Literal["over", "under", "concat"]

MEANINGS: dict[Mixing, str] = {
    "over": "an epoch ends when every dataset was read to its end; smaller ones are repeated in it",
    "under": "an epoch ends before a dataset would be repeated; rows of larger ones are left for the next epoch",
    "concat": "an epoch has every row of every dataset once, shuffled together",
}
