"""The columns that rows can have. A task's writer chooses some of them, and set.json of its rows names these."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
"""Indices or counts."""

Columns = Mapping[str, Ints]
"""Rows as named columns, [rows, length] each."""

NO_TARGET = -100
"""The label of a position without a target."""

INPUT_IDS, LABELS, POSITION_IDS = "input_ids", "labels", "position_ids"
"""Tokens; the token that follows each, or NO_TARGET; the position of each within its own sample."""

OF_TOKENS = (INPUT_IDS, LABELS, POSITION_IDS)
"""Columns of rows whose targets are tokens."""

_FILLING = {INPUT_IDS: 0, LABELS: NO_TARGET}


def empty(column: str, rows: int, length: int) -> Ints:
    """Values of rows that fill up a batch, [rows, length]: one sample each, without a target."""
    if column == POSITION_IDS:
        return np.broadcast_to(np.arange(length), (rows, length)).copy()
    return np.full((rows, length), _FILLING[column], np.int64)
