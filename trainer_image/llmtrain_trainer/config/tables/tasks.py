"""The tasks by name, and what operator and trainer both know of them. What makes rows of documents is in the trainer's tasks/, what makes a
loss of outputs in its objectives/."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Task = Literal["pretrain", "sft"]
DEFAULT_TASK: Task = "pretrain"
Format = Literal["text", "lines", "promptCompletion", "messages", "sharegpt", "alpaca", "squad"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskTraits:
    """One task."""

    formats: tuple[Format, ...]
    """Of datasets that it reads."""

    fine_tunes: bool
    """Whether each document is a sample with a prompt and an answer: defaults, chat template and advice are then those of fine-tuning."""

    packs: bool
    """Whether spec.training.packing puts several samples into a row, which do not see each other."""


TASKS: Mapping[Task, TaskTraits] = {
    "pretrain": TaskTraits(formats=("text", "lines"), fine_tunes=False, packs=False),
    "sft": TaskTraits(
        formats=("text", "lines", "promptCompletion", "messages", "sharegpt", "alpaca", "squad"), fine_tunes=True, packs=True
    ),
}


def is_packed(task: Task, packing: bool) -> bool:
    """Whether rows hold several samples, so that attention is given a mask. `packing`: spec.training.packing."""
    return TASKS[task].packs and packing
