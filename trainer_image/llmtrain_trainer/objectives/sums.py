"""Loss and metrics of an objective as one vector, [1 + metrics], so that stages pass, and ranks sum, one tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from llmtrain_trainer.objectives.objective import Loss, Objective


def vector(objective: Objective, loss: Loss) -> torch.Tensor:
    """[1 + metrics]: the sum of the loss first. A tensor of its own, not a view: FSDP hooks onto what a stage returns."""
    return torch.stack((loss.sum, *(loss.metrics[name] for name in objective.metrics)))


def added(vectors: torch.Tensor) -> torch.Tensor:
    """[micro-batches, 1 + metrics] -> [1 + metrics]."""
    return torch.stack([column.contiguous().sum() for column in vectors.unbind(1)])


def named(objective: Objective, metrics: Sequence[float]) -> dict[str, float]:
    """The rest of a vector, by the names of the metrics."""
    return dict(zip(objective.metrics, metrics, strict=True))
