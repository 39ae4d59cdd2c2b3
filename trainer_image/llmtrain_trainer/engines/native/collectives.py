"""Collectives with gradients, for use inside a model."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch.autograd import Function

Sizes = list[int] | None
"""Rows to (or from) each rank of the group; None: the same number for each."""


class _Exchange(Function):
    """All-to-all over dimension 0; backward sends gradients back to the ranks that the values came from."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, sent: Sizes, received: Sizes, group: dist.ProcessGroup) -> torch.Tensor:
        ctx.sent, ctx.received, ctx.group = sent, received, group
        return _all_to_all(values, sent, received, group)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        return _all_to_all(gradient, ctx.received, ctx.sent, ctx.group), None, None, None


def all_to_all(values: torch.Tensor, group: dist.ProcessGroup, sent: Sizes = None, received: Sizes = None) -> torch.Tensor:
    """All-to-all of `values` [rows, ...] over dimension 0: sent[i] rows go to rank i of `group`, received[i] come from it.

    Returns [sum(received), ...], in the order of the ranks; with None the rows are divided equally.
    """
    result: torch.Tensor = _Exchange.apply(values, sent, received, group)  # type: ignore[no-untyped-call]
    return result


def _all_to_all(values: torch.Tensor, sent: Sizes, received: Sizes, group: dist.ProcessGroup) -> torch.Tensor:
    rows = values.shape[0] if received is None else sum(received)
    result = values.new_empty((rows, *values.shape[1:]))
    dist.all_to_all_single(result, values.contiguous(), received, sent, group=group)
    return result


class _CopyToGroup(Function):
    """Identity forward; all-reduce of gradients backward."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
        ctx.group = group
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        gradient = gradient.clone()
        dist.all_reduce(gradient, group=ctx.group)
        return gradient, None


class _ReduceFromGroup(Function):
    """All-reduce forward; identity backward."""

    @staticmethod
    def forward(_: Any, parts: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
        whole = parts.clone()
        dist.all_reduce(whole, group=group)
        return whole

    @staticmethod
    def backward(_: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient, None


def copy_to_group(values: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
    """Identity forward, all-reduce backward: enters a region where each rank of `group` computes a partial result. Any shape."""
    result: torch.Tensor = _CopyToGroup.apply(values, group)  # type: ignore[no-untyped-call]
    return result


def reduce_from_group(parts: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
    """All-reduce forward, identity backward: leaves such a region with the sum of the parts on every rank of `group`. Any shape."""
    result: torch.Tensor = _ReduceFromGroup.apply(parts, group)  # type: ignore[no-untyped-call]
    return result
