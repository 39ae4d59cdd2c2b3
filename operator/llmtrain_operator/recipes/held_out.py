"""Rows that a recipe holds out by their number, which llmtrain says as two slices of one dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmtrain_operator.recipes.counterpart import Counterpart, Told
from llmtrain_operator.recipes.flat import nested
from llmtrain_operator.recipes.values import real

ROWS = "evaluation.rows"
"""Stands for evaluation.dataset and the training dataset's split until the datasets are read."""


def held_out(value: Any, datasets: int) -> Told:
    """A share, or a number of rows. datasets: how many the recipe has, 0 where they have no slices of their own."""
    amount = real(value)
    if amount < 0:
        raise ValueError(f"{value!r} is less than 0")
    if amount == 0:
        return Told(outcome=Counterpart.NO_EFFECT, note="nothing is held out")
    if amount < 1:
        return Told(outcome=Counterpart.MAPS, fields={"evaluation.split": amount})
    if datasets == 1:
        note = f"the first {amount:.0f} rows are held out, not rows drawn at random"
        return Told(outcome=Counterpart.DIFFERS, fields={ROWS: int(amount)}, note=note)
    note = f"evaluation.split is a share: hold {amount:.0f} rows out by evaluation.dataset with split: train[:{amount:.0f}]"
    return Told(outcome=Counterpart.CANNOT, note=note)


def with_rows_held_out(fields: Mapping[str, Any], entries: list[dict[str, Any]]) -> dict[str, Any]:
    """The fields with the first rows of the one dataset as those of the evaluation. Changes the split that is trained on."""
    found = dict(fields)
    rows = found.pop(ROWS, None)
    if rows is None or len(entries) != 1 or "[" in entries[0].get("split", ""):
        return found
    entry, split = entries[0], entries[0].get("split", "train")
    own = {path: value for path, value in entry.items() if path not in ("weight", "streaming")}
    entries[0] = entry | {"split": f"{split}[{rows}:]"}
    return found | {"evaluation.dataset": [nested(own | {"split": f"{split}[:{rows}]"})]}
