"""The head of a classifier in the plan: how many labels it has."""

from __future__ import annotations

from dataclasses import replace

from llmtrain_operator.api.job import Spec
from llmtrain_operator.plan.model.shape import ModelShape
from llmtrain_trainer.config.tables.tasks import TASKS

FEWEST = 2
"""Labels that are counted where the manifest names none: preparation takes them from the model or from the data."""


def with_labels(shape: ModelShape | None, spec: Spec) -> ModelShape | None:
    """The model with the head of the task."""
    if shape is None or not TASKS[spec.task].labels:
        return shape
    return replace(shape, classes=len(spec.labels) or FEWEST)
