"""Rows of the decision table on names that are in use."""

from __future__ import annotations

from typing import Any

import pytest
from tests.operator.life.policies.table import Row, holds, named

from llmtrain_operator.life.decision import Action

TABLE: list[Row] = [
    (
        "pods of an earlier job of the name are waited for, and are not ours to delete",
        lambda w: w.nothing(job=w.job(w.status(phase=None, attempt=None, pods=None)), pods=(w.pod(owner="another"),)),
        "Pending",
        "NameInUse",
        Action.NOTHING,
    ),
    (
        "stopped pods of an earlier job of the name hold its name",
        lambda w: w.nothing(job=w.job(w.status(phase=None, attempt=None, pods=None)), pods=(w.ended(0, owner="another"),)),
        "Pending",
        "NameInUse",
        Action.NOTHING,
    ),
]


@pytest.mark.parametrize("row", TABLE, ids=named)
def test_(w: Any, row: Row) -> None:
    holds(w, row)
