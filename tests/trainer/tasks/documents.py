"""Documents by hand, as the encoder would give them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmtrain_trainer.config import Training
from llmtrain_trainer.data.formats.encoding import Encoded


def training(length: int, **changes: Any) -> Training:
    return Training.model_validate({"globalBatchSize": 1, "sequenceLength": length, "maxSteps": 1, **changes})


def document(ids: Sequence[int], learned: str = "", **changes: Any) -> Encoded:
    """`learned`: a letter a token, x where it is to be predicted; all are where nothing is said."""
    marks = learned or "x" * len(ids)
    assert len(marks) == len(ids)
    facts: dict[str, Any] = {"said": len(ids), **changes}
    return Encoded(ids=np.array(ids, np.int32), loss_mask=np.array([mark == "x" for mark in marks], bool), **facts)


def table(directory: Path, name: str) -> list[Any]:
    found: list[Any] = np.load(directory / f"{name}.npy").tolist()
    return found
