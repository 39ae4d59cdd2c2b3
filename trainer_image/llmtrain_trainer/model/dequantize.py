"""Matrices out of weights in few bits and their scales: weight times scale, in fp32."""

from __future__ import annotations

import torch

from llmtrain_trainer.model.weight_files import WrongWeightsError

SCALED = ("F8_E4M3", "F8_E5M2", "I8")
"""Types that mean nothing without a scale."""


def spans(shape: tuple[int, ...], scale: tuple[int, ...], block: tuple[int, int] | None) -> tuple[int, ...] | None:
    """How many elements share a scale, along each dimension of a weight; None where the two shapes do not belong together.

    One scale for all; one a row; or one for each block, of `block` rows and columns or of what divides evenly. Blocks at the end may be
    smaller than the others where `block` says how large those are.
    """
    if 0 in scale:
        return None
    if all(size == 1 for size in scale):
        return shape
    if len(scale) == 1 and len(shape) == 2 and scale[0] == shape[0]:
        return (1, shape[1])
    if len(scale) != len(shape):
        return None
    sizes = (*(1 for _ in shape[:-2]), *block) if block and len(shape) >= 2 else None
    if sizes and all(-(-whole // size) == parts for whole, size, parts in zip(shape, sizes, scale, strict=True)):
        return sizes
    if any(whole % parts for whole, parts in zip(shape, scale, strict=True)):
        return None
    return tuple(whole // parts for whole, parts in zip(shape, scale, strict=True))


def dequantized(
    name: str, weight: torch.Tensor, scale: torch.Tensor, block: tuple[int, int] | None, zeros: torch.Tensor | None = None
) -> torch.Tensor:
    """The matrix in fp32, [...]: (weight - zero point) x scale. Raises WrongWeightsError where the shapes do not belong together."""
    sizes = spans(tuple(weight.shape), tuple(scale.shape), block)
    if sizes is None:
        rule = f"the scale of {name} has shape {list(scale.shape)}, which does not fit a weight of {list(weight.shape)}"
        raise WrongWeightsError(rule, "Fetch the files again, or name the model before quantization")
    whole = weight.float() if zeros is None else weight.float() - _spread(zeros.float(), tuple(weight.shape), sizes)
    return whole * _spread(_factor(scale), tuple(weight.shape), sizes)


def _spread(of_parts: torch.Tensor, shape: tuple[int, ...], sizes: tuple[int, ...]) -> torch.Tensor:
    """One number for each part of a weight -> for each element, or what broadcasts to that."""
    if of_parts.numel() == 1:
        return of_parts.reshape(())
    if of_parts.ndim == 1 and len(shape) == 2:
        return of_parts.unsqueeze(1)
    for axis, size in enumerate(sizes):
        if of_parts.shape[axis] > 1:
            of_parts = of_parts.repeat_interleave(size, axis).narrow(axis, 0, shape[axis])
    return of_parts


def _factor(scale: torch.Tensor) -> torch.Tensor:
    """In fp32. A byte is an exponent of two, 127 more than it is (the type E8M0 of OCP's microscaling formats)."""
    return (scale.float() - 127.0).exp2() if scale.dtype == torch.uint8 else scale.float()
