"""Cross entropy summed over target tokens, also of logits that are split over the vocabulary. Called by parallel/stage.py."""

from __future__ import annotations

import torch
from torch.distributed.tensor import DTensor
from torch.nn.functional import cross_entropy

IGNORED = -100
"""Label of a position that is no target."""


def token_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Sum of -log p(label) over the labels that are not -100, in fp32, shape [1].

    logits: [batch, length, vocabulary], a DTensor split on the vocabulary where tp > 1; needs `loss_parallel` around forward and
    backward then, so that the whole vocabulary is never gathered on one rank. labels: [batch, length], already shifted.
    """
    total = cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum")
    return torch.stack((total.to_local() if isinstance(total, DTensor) else total,))  # not a view: FSDP hooks onto what a stage returns
