"""What an objective is: from the outputs of a head and the columns of a batch to a loss and its metrics. Every engine asks it.

An engine knows no loss of its own. It reads of a batch what the objective names, runs the model, hands both to `loss` on the last pipeline
stage, and adds what comes back over micro-batches and ranks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch

Head = Literal["causalLm", "score"]
"""What stands on the base model: causalLm gives logits over the vocabulary, [batch, length, vocabulary]; score gives one for each label,
[batch, length, labels]."""

Batch = Mapping[str, torch.Tensor]
"""The objective's columns of one micro-batch, on the device of the outputs."""


class Loss(NamedTuple):
    """Of one micro-batch."""

    sum: torch.Tensor
    """Over the targets, fp32 scalar. The engine divides it by the targets of the global batch."""

    targets: torch.Tensor
    """How many, integer scalar."""

    metrics: Mapping[str, torch.Tensor]
    """Each of the objective's metrics, summed over the targets like the loss: fp32 scalars without a gradient."""


class Objective(Protocol):
    """Without state: the same outputs and columns give the same loss on every rank and in every layout."""

    @property
    def columns(self) -> tuple[str, ...]:
        """What the loss reads of a batch, by the names of data/columns.py."""
        ...

    @property
    def head(self) -> Head:
        """Which head of the model gives the outputs."""
        ...

    @property
    def needs_reference(self) -> bool:
        """Whether the loss compares with the model that training started from."""
        ...

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of what `loss` measures besides the loss."""
        ...

    def loss(self, outputs: torch.Tensor, batch: Batch) -> Loss:
        """Of what the head gives. Where tp > 1, logits over the vocabulary are a DTensor that is split over it."""
        ...


@runtime_checkable
class TokenObjective(Objective, Protocol):
    """An objective that needs no more of a head than the cross entropy of each label: Megatron's model computes that by itself."""

    def loss_of_tokens(self, losses: torch.Tensor, batch: Batch) -> Loss:
        """losses: [batch, length], -log p(label); anything where the label is no target."""
        ...
