"""The input of refusals: the manifest, the model's shape, the GPU, and the degrees with defaults filled in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.manifest.problem import Problem
from llmtrain_operator.plan.layout.batch import batch_of
from llmtrain_operator.plan.layout.degrees import Degrees
from llmtrain_operator.plan.layout.hardware import Gpu
from llmtrain_operator.plan.model.shape import ModelShape
from llmtrain_trainer.config import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutRequest:
    """A manifest with its degrees, before it is checked."""

    job: LLMTrainJob
    shape: ModelShape | None
    """None if config.json cannot be read before preparation; the ranks then check the rules on the model."""

    gpu: Gpu | None
    """None on CPU processes."""

    degrees: Degrees

    @property
    def degrees_fill_devices(self) -> bool:
        """Whether the product of the degrees is the number of devices, so that the data degree is valid."""
        return self.degrees.dp * self.degrees.model_parallel == self.degrees.world

    @property
    def batch(self) -> Batch | Problem:
        return batch_of(self.job.spec.training, self.degrees.dp)

    @property
    def accumulation(self) -> int | None:
        """Micro-batches per step and replica; None if the batch does not divide."""
        return self.batch.accumulation if self.degrees_fill_devices and isinstance(self.batch, Batch) else None


Refusal = Callable[[LayoutRequest], Problem | None]
