"""Matrices out of integers packed into words, as several methods of quantization store them.

A matrix has shape [outputs, inputs], as of a linear layer. Everything is computed in fp32.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from llmtrain_trainer.config.quantized import Quantized

Parts = Mapping[str, torch.Tensor]
"""What follows the module's name (`qweight`, `weight.absmax`, ...) -> the tensor."""

AT_ONCE = 1 << 24
"""Numbers that are taken out of their words at once, eight bytes each."""

AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)
"""Where in a word of eight AWQ keeps columns 0 to 7."""

E2M1 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0])
"""4-bit floats: a sign, two bits of exponent, one of mantissa."""


def unpacked(words: torch.Tensor, bits: int, count: int) -> torch.Tensor:
    """words [rows, n] of 32 bits -> numbers [rows, count] of `bits` each, lowest bits first; one may span two words."""
    rows = max(1, AT_ONCE // max(count, 1))
    return torch.cat([_unpacked(part, bits, count) for part in torch.split(words, rows)])


def _unpacked(words: torch.Tensor, bits: int, count: int) -> torch.Tensor:
    whole = words.to(torch.int64) & 0xFFFFFFFF
    starts = torch.arange(count) * bits
    word, offset = starts // 32, starts % 32
    following = torch.cat([whole, whole.new_zeros(len(whole), 1)], 1)[:, word + 1]
    return (((whole[:, word] >> offset) | (following << (32 - offset))) & ((1 << bits) - 1)).to(torch.int16)


def bnb_4bit(parts: Parts, _: Quantized) -> torch.Tensor:
    """bitsandbytes' nf4 and fp4: indices into a table of 16 values, times the largest of a block, which may be in 8 bits. [out, in]."""
    state = state_of(parts)
    pairs = parts["weight"].contiguous().view(torch.uint8).flatten()
    numbers = torch.stack([pairs >> 4, pairs & 15], 1).flatten()
    largest = parts["weight.absmax"]
    if "weight.nested_absmax" in parts:
        table, over = parts["weight.nested_quant_map"].float(), parts["weight.nested_absmax"].float()
        spread = over.repeat_interleave(int(state["nested_blocksize"]))[: largest.numel()]
        largest = table[largest.flatten().int()] * spread + float(state["nested_offset"])
    count = torch.Size(state["shape"]).numel()
    values = parts["weight.quant_map"].float()[numbers[:count].int()]
    return (values * largest.float().repeat_interleave(int(state["blocksize"]))[:count]).reshape(state["shape"])


def state_of(parts: Parts) -> dict[str, Any]:
    """The quantization state that bitsandbytes stores beside a matrix."""
    stored = next(tensor for name, tensor in parts.items() if ".quant_state." in name)
    found: dict[str, Any] = json.loads(bytes(stored.tolist()))
    return found


def bnb_8bit(parts: Parts, _: Quantized) -> torch.Tensor:
    """Integers of up to 127, which stands for the largest weight of a row. [out, in]."""
    return parts["weight"].float() * parts["SCB"].float().reshape(-1, 1) * (1 / 127)


def gptq(parts: Parts, said: Quantized) -> torch.Tensor:
    """Integers packed along the inputs, with a scale and a zero point for each group of inputs and each output. [out, in]."""
    scales = parts["scales"].float()
    outputs, words = scales.shape[1], parts["qweight"].T
    bits = parts["qzeros"].shape[1] * 32 // outputs
    inputs = words.shape[1] * 32 // bits
    numbers, zeros = unpacked(words, bits, inputs), _zeros(parts["qzeros"], bits, outputs, said.zeros_less_one)
    size = said.group or inputs
    group = parts["g_idx"].long() if "g_idx" in parts else torch.arange(inputs) // size
    return (numbers - zeros[group].T).float() * scales[group].T


def _zeros(words: torch.Tensor, bits: int, count: int, less_one: bool) -> torch.Tensor:
    """GPTQ's zero points [groups, count]. One is added to the words where no number spans two: so it was taken away, borrows included."""
    if not less_one:
        return unpacked(words, bits, count)
    if 32 % bits:
        return (unpacked(words, bits, count) + 1) & ((1 << bits) - 1)
    return unpacked(words.to(torch.int64) + sum(1 << start for start in range(0, 32, bits)), bits, count)


def awq(parts: Parts, _: Quantized) -> torch.Tensor:
    """4-bit integers packed along the outputs in an order of their own, with a scale and a zero point per group and output. [out, in]."""
    scales = parts["scales"].float()
    groups, outputs = scales.shape
    numbers, zeros = (_in_order(unpacked(parts[name], 4, outputs)) for name in ("qweight", "qzeros"))
    size = len(numbers) // groups
    return ((numbers - zeros.repeat_interleave(size, 0)).float() * scales.repeat_interleave(size, 0)).T


def _in_order(numbers: torch.Tensor) -> torch.Tensor:
    return numbers.reshape(len(numbers), -1, 8)[:, :, list(AWQ_ORDER)].flatten(1)


def packed(parts: Parts, _: Quantized) -> torch.Tensor:
    """compressed-tensors: signed integers packed along the inputs; there may be zero points, packed along the outputs. [out, in]."""
    rows, columns = (int(size) for size in parts["weight_shape"])
    bits, scales = bits_of(parts["weight_packed"].shape, columns), parts["weight_scale"].float()
    middle = 1 << (bits - 1)
    numbers = unpacked(parts["weight_packed"], bits, columns) - middle
    factor = _spread(scales, parts, columns)
    if "weight_zero_point" not in parts:
        return numbers.float() * factor
    zeros = unpacked(parts["weight_zero_point"].T, bits, rows).T - middle
    return (numbers.float() - _spread(zeros.float(), parts, columns)) * factor


def bits_of(packed_shape: Sequence[int], columns: int) -> int:
    """Width of numbers of which so many fill the words of a row; 0 where not exactly one width up to 8 does."""
    fit = [bits for bits in range(1, 9) if -(-columns * bits // 32) == packed_shape[1]]
    return fit[0] if len(fit) == 1 else 0


def _spread(of_groups: torch.Tensor, parts: Parts, columns: int) -> torch.Tensor:
    """One for each group of inputs of a row, or for all -> at each input."""
    if of_groups.numel() == 1:
        return of_groups.reshape(1, 1)
    if "weight_g_idx" in parts and int(parts["weight_g_idx"].min()) >= 0:
        return of_groups[:, parts["weight_g_idx"].long()]
    return of_groups.repeat_interleave(-(-columns // of_groups.shape[1]), 1)[:, :columns]


def fp4(parts: Parts, _: Quantized) -> torch.Tensor:
    """Two 4-bit floats a byte, with a scale for each 16 (nvfp4) or 32 (mxfp4) inputs, and for nvfp4 one for all that divides those."""
    pairs, scales = parts["weight_packed"], parts["weight_scale"]
    values = E2M1[torch.stack([pairs & 15, pairs >> 4], -1).flatten(1).int()]
    factor = (scales.float() - 127.0).exp2() if scales.dtype == torch.uint8 else scales.float()
    if "weight_global_scale" in parts:
        factor = factor / parts["weight_global_scale"].float()
    return values * factor.repeat_interleave(values.shape[1] // factor.shape[1], 1)


def affine(parts: Parts, said: Quantized) -> torch.Tensor:
    """MLX: unsigned integers packed along the inputs, times a scale, plus a bias. [out, in]."""
    scales = parts["scales"].float()
    bias = next(parts[name] for name in ("biases", "qbiases") if name in parts).float()
    assert said.group is not None
    columns = scales.shape[1] * said.group
    numbers = unpacked(parts["weight"].view(torch.int32), parts["weight"].shape[1] * 32 // columns, columns)
    return numbers.float() * scales.repeat_interleave(said.group, 1) + bias.repeat_interleave(said.group, 1)
