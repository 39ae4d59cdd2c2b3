"""What a refusal looks at: the manifest, the model's shape, the GPU, and the degrees with defaults filled in."""

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
class Case:
    """One manifest under one choice of degrees."""

    job: LLMTrainJob
    shape: ModelShape | None
    """None where config.json cannot be read before preparation; rules about the model are then left to the ranks."""

    gpu: Gpu | None
    """None on CPU processes."""

    degrees: Degrees

    @property
    def whole(self) -> bool:
        """Whether the degrees multiply to the devices, so that the data degree means something."""
        return self.degrees.dp * self.degrees.model_parallel == self.degrees.world

    @property
    def batch(self) -> Batch | Problem:
        return batch_of(self.job.spec.training, self.degrees.dp)

    @property
    def accumulation(self) -> int | None:
        """Micro-batches a step and replica, where the batch arithmetic works out."""
        return self.batch.accumulation if self.whole and isinstance(self.batch, Batch) else None


Refusal = Callable[[Case], Problem | None]
