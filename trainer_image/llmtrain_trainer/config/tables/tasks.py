"""The tasks by name, and what operator and trainer both know of them. What makes rows of documents is in the trainer's tasks/, what makes a
loss of outputs in its objectives/."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from llmtrain_trainer.config.tables.engines import ENGINE_FACTS, EngineName
from llmtrain_trainer.config.tables.families import NO_CLASSIFIER

Task = Literal["pretrain", "sft", "classify"]
DEFAULT_TASK: Task = "pretrain"
Format = Literal["text", "lines", "promptCompletion", "messages", "sharegpt", "alpaca", "squad", "tokens", "textLabel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskTraits:
    """One task."""

    formats: tuple[Format, ...]
    """Of datasets that it reads."""

    fine_tunes: bool
    """Whether each document is a sample with a prompt and an answer: defaults, chat template and advice are then those of fine-tuning."""

    packs: bool
    """Whether spec.training.packing puts several samples into a row, which do not see each other."""

    engines: tuple[EngineName, ...]
    """Engines that train it."""

    not_of: tuple[str, ...] = ()
    """Model families that an engine trains, but not for this task: transformers has no model of them with its head."""

    labels: bool = False
    """Whether it learns labels of whole documents: spec.labels names them."""


EVERY: tuple[EngineName, ...] = tuple(ENGINE_FACTS)

TASKS: Mapping[Task, TaskTraits] = {
    "pretrain": TaskTraits(formats=("text", "lines", "tokens"), fine_tunes=False, packs=False, engines=EVERY),
    "sft": TaskTraits(
        formats=("text", "lines", "promptCompletion", "messages", "sharegpt", "alpaca", "squad", "tokens"),
        fine_tunes=True,
        packs=True,
        engines=EVERY,
    ),
    "classify": TaskTraits(
        formats=("textLabel",), fine_tunes=True, packs=False, engines=("native", "accelerate"), not_of=NO_CLASSIFIER, labels=True
    ),
}


def is_packed(task: Task, packing: bool) -> bool:
    """Whether rows hold several samples, so that attention is given a mask. `packing`: spec.training.packing."""
    return TASKS[task].packs and packing
