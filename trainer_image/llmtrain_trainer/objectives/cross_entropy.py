"""Cross entropy summed over target tokens, also of logits that are split over the vocabulary."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.nn.functional import cross_entropy

from llmtrain_trainer.data.columns import NO_TARGET

CHUNK = {"cpu": 1 << 18, "cuda": 1 << 25}
"""Logits worked on at once, by device: what stays in a core's cache; few kernels, and 128 MiB in fp32."""


def summed_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Sum of -log p(label) over the labels that are not -100, fp32 scalar.

    logits: [batch, length, vocabulary], a DTensor split on the vocabulary where tp > 1; needs `loss_parallel` around forward and
    backward then, so that the whole vocabulary is never gathered on one rank. Large whole logits are overwritten, see
    `_SummedCrossEntropy`. labels: [batch, length], already shifted.
    """
    flat, targets = logits.flatten(0, 1), labels.flatten()
    if isinstance(flat, DTensor) or flat.numel() <= CHUNK[flat.device.type]:
        total = cross_entropy(flat.float(), targets, ignore_index=NO_TARGET, reduction="sum")
    else:
        total = _SummedCrossEntropy.apply(flat, targets)  # type: ignore[no-untyped-call]
    return total.to_local() if isinstance(total, DTensor) else total


class _SummedCrossEntropy(torch.autograd.Function):
    """Loss and gradient in one pass over the logits, chunk by chunk; the gradient takes the logits' place in memory.

    The logits are the largest tensor of a step, and torch's own cross entropy makes three more of their size. Nothing else may read them
    afterwards; a backward that would is stopped by autograd's check for values that were changed in place.
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        rows = max(1, CHUNK[logits.device.type] // logits.shape[1])
        train = ctx.needs_input_grad[0]
        losses = [_chunk(*parts, overwrite=train) for parts in zip(torch.split(logits, rows), torch.split(labels, rows), strict=True)]
        ctx.gradient = logits if train else None
        return torch.cat(losses).sum()

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor, None]:
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:
            raise RuntimeError("the loss was differentiated twice, but its gradient is kept once")
        return gradient.mul_(outer[0]), None


def _chunk(logits: torch.Tensor, labels: torch.Tensor, *, overwrite: bool) -> torch.Tensor:
    """-log p(label) of each row, fp32, 0 where it is no target; `overwrite`: the rows become softmax minus one-hot, 0 likewise."""
    ignored = labels == NO_TARGET
    at = labels.masked_fill(ignored, 0).unsqueeze(1)
    logarithm = torch.log_softmax(logits, 1, dtype=torch.float32)
    loss = -logarithm.gather(1, at).squeeze(1).masked_fill_(ignored, 0.0)
    if overwrite:
        probability = logarithm.exp_().scatter_add_(1, at, torch.full_like(at, -1, dtype=torch.float32))
        logits.copy_(probability.masked_fill_(ignored.unsqueeze(1), 0.0))
    return loss
