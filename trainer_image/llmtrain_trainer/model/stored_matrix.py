"""Which tensors of a model's files hold one quantized matrix, and its shape once dequantized. Used by pretrained.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch

from llmtrain_trainer.config.quantized import Quantized, Way
from llmtrain_trainer.config.tables.families import family_named
from llmtrain_trainer.model import packed
from llmtrain_trainer.model.packed import Parts
from llmtrain_trainer.model.weight_files import TensorHeader, WrongWeightsError

Entries = Mapping[str, TensorHeader]
Read = Callable[[str], torch.Tensor]

WIDTHS = {"U8": torch.uint8, "I8": torch.int8, "BF16": torch.bfloat16, "F16": torch.float16}
"""Of what bitsandbytes may put its numbers into, what does not have four bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixFormat:
    """One way to store a matrix, by what follows the module's name."""

    numbers: str
    dtypes: tuple[str, ...] = ()
    """Of the numbers, as headers call them; none named: any."""

    beside: tuple[str, ...]
    maybe: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()
    shape: Callable[[Parts, Quantized], tuple[int, ...] | None]
    """Of the matrix, from its parts on the meta device but for those that are `small`; None where they do not belong together."""

    small: tuple[str, ...] = ()
    """Parts whose values the shape is in."""

    matrix: Callable[[Parts, Quantized], torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMatrix:
    """One weight and the tensors that hold it."""

    name: str
    """Shape of the dequantized weight."""

    tensors: Mapping[str, str]
    """What follows the module's name -> name of the tensor."""

    shape: tuple[int, ...]
    kind: MatrixFormat
    transposed: bool

    def whole(self, read: Read, said: Quantized) -> torch.Tensor:
        """The dequantized matrix [*shape] in fp32."""
        matrix = self.kind.matrix({part: read(tensor) for part, tensor in self.tensors.items()}, said)
        return matrix.T if self.transposed else matrix


def stored_matrices(entries: Entries, said: Quantized, model_type: str, read: Read) -> Iterator[StoredMatrix]:
    """Every matrix that is stored in one of the ways of config.json. Raises WrongWeightsError where parts do not belong together."""
    kinds = [KINDS[way] for way in said.ways if way in KINDS]
    for name in entries:
        for kind in kinds:
            fits = name.endswith(f".{kind.numbers}") and (not kind.dtypes or entries[name].dtype in kind.dtypes)
            if fits and (tensors := _tensors(kind, name.removesuffix(kind.numbers), entries)):
                yield _stored(kind, tensors, entries, said, model_type, read)


def _tensors(kind: MatrixFormat, stem: str, entries: Entries) -> dict[str, str]:
    """Empty where one of them lacks: the weight is stored in another way then."""
    found = {part: stem + part for part in (kind.numbers, *kind.beside, *kind.maybe, *kind.one_of) if stem + part in entries}
    whole = all(part in found for part in kind.beside) and (not kind.one_of or any(part in found for part in kind.one_of))
    return found if whole else {}


def _stored(kind: MatrixFormat, tensors: dict[str, str], entries: Entries, said: Quantized, model_type: str, read: Read) -> StoredMatrix:
    parts = {part: read(tensor) if part in kind.small else _outline(entries[tensor]) for part, tensor in tensors.items()}
    try:
        shape = kind.shape(parts, said)
    except (ValueError, LookupError, TypeError, ArithmeticError, RuntimeError) as error:  # of whatever a file may hold
        shape, because = None, f" ({type(error).__name__}: {error})"
    else:
        because = ""
    if shape is None:
        told = ", ".join(f"{part} {list(entries[tensor].shape)}" for part, tensor in tensors.items())
        rule = f"the parts of {tensors[kind.numbers]} do not make a matrix as {said.method} stores it: {told}{because}"
        raise WrongWeightsError(rule[:600], "Fetch the files again, or name the model before quantization")
    transposed = family_named(model_type).transposed  # a quantized file keeps what it has of every family
    stem = tensors[kind.numbers].removesuffix(kind.numbers)
    return StoredMatrix(name=f"{stem}weight", tensors=tensors, shape=shape[::-1] if transposed else shape, kind=kind, transposed=transposed)


def _outline(entry: TensorHeader) -> torch.Tensor:
    return torch.empty(entry.shape, dtype=WIDTHS.get(entry.dtype, torch.float32), device="meta")


# Shapes [outputs, inputs]


def _bnb_4bit(parts: Parts, _: Quantized) -> tuple[int, ...] | None:
    if any(parts[part].numel() > MOST_OF_A_STATE for part in STATES if part in parts):
        return None
    state = packed.state_of(parts)
    shape, block = tuple(int(size) for size in state["shape"]), int(state["blocksize"])
    count = torch.Size(shape).numel()
    bytes_held = parts["weight"].numel() * parts["weight"].element_size()
    blocks = -(-count // block)
    nested = "weight.nested_absmax" not in parts or (
        parts["weight.nested_quant_map"].numel() == 256
        and parts["weight.nested_absmax"].numel() == -(-blocks // int(state["nested_blocksize"]))
        and isinstance(state["nested_offset"], int | float)
    )
    fits = bytes_held == -(-count // 2) and parts["weight.absmax"].numel() == blocks and parts["weight.quant_map"].numel() == 16
    return shape if fits and nested and min(shape) > 0 else None


def _bnb_8bit(parts: Parts, _: Quantized) -> tuple[int, ...] | None:
    weight, row_major = parts["weight"], "weight_format" not in parts or int(parts["weight_format"]) == 0
    return tuple(weight.shape) if weight.ndim == 2 and parts["SCB"].numel() == len(weight) and row_major else None


def _gptq(parts: Parts, said: Quantized) -> tuple[int, ...] | None:
    (rows, outputs), (groups, width) = parts["qweight"].shape, parts["scales"].shape
    bits, rest = divmod(parts["qzeros"].shape[1] * 32, outputs)
    inputs, remainder = divmod(rows * 32, bits)
    if rest or remainder or bits > 8 or width != outputs or parts["qzeros"].shape[0] != groups:
        return None
    if "g_idx" in parts:
        index = parts["g_idx"]
        return (outputs, inputs) if tuple(index.shape) == (inputs,) and 0 <= int(index.min()) <= int(index.max()) < groups else None
    return (outputs, inputs) if groups == -(-inputs // (said.group or inputs)) else None


def _awq(parts: Parts, _: Quantized) -> tuple[int, ...] | None:
    (inputs, words), (groups, outputs) = parts["qweight"].shape, parts["scales"].shape
    fits = words * 8 == outputs and inputs % groups == 0 and tuple(parts["qzeros"].shape) == (groups, words)
    return (outputs, inputs) if fits else None


def _packed(parts: Parts, _: Quantized) -> tuple[int, ...] | None:
    rows, columns = (int(size) for size in parts["weight_shape"])
    scale, bits = parts["weight_scale"], packed.bits_of(parts["weight_packed"].shape, columns)
    grouped = scale.numel() == 1 or (scale.ndim == 2 and scale.shape[0] == rows and _in_groups(columns, scale.shape[1], parts))
    zeros = parts.get("weight_zero_point")
    zeroed = zeros is None or tuple(zeros.shape) == (-(-rows * bits // 32), scale.shape[-1])
    return (rows, columns) if bits and parts["weight_packed"].shape[0] == rows and grouped and zeroed else None


def _in_groups(columns: int, groups: int, parts: Parts) -> bool:
    """Whether so many inputs fall into groups of one size, or each input says into which."""
    index = parts.get("weight_g_idx")
    if index is not None and int(index.min()) >= 0:
        return tuple(index.shape) == (columns,) and int(index.max()) < groups
    return columns % groups == 0


def _fp4(parts: Parts, _: Quantized) -> tuple[int, ...] | None:
    (rows, pairs), scale = parts["weight_packed"].shape, parts["weight_scale"]
    one = "weight_global_scale" not in parts or parts["weight_global_scale"].numel() == 1
    fits = tuple(scale.shape) in ((rows, pairs * 2 // 16), (rows, pairs * 2 // 32)) and pairs * 2 % scale.shape[1] == 0
    return (rows, pairs * 2) if fits and one else None


def _affine(parts: Parts, said: Quantized) -> tuple[int, ...] | None:
    (rows, words), scale = parts["weight"].shape, parts["scales"]
    columns = scale.shape[1] * (said.group or 0)
    bits, rest = divmod(words * 32, columns)
    bias = next(parts[name] for name in ("biases", "qbiases") if name in parts)
    return (rows, columns) if not rest and bits in range(1, 9) and scale.shape[0] == rows and bias.shape == scale.shape else None


MOST_OF_A_STATE = 1 << 16
"""Bytes of bitsandbytes' notes on a matrix, which are about 200."""

STATES = ("weight.quant_state.bitsandbytes__nf4", "weight.quant_state.bitsandbytes__fp4")

KINDS: Mapping[Way, MatrixFormat] = {
    "bnb_4bit": MatrixFormat(
        numbers="weight",
        beside=("weight.absmax", "weight.quant_map"),
        maybe=("weight.nested_absmax", "weight.nested_quant_map"),
        one_of=STATES,
        small=STATES,
        shape=_bnb_4bit,
        matrix=packed.bnb_4bit,
    ),
    "bnb_8bit": MatrixFormat(
        numbers="weight",
        dtypes=("I8",),
        beside=("SCB",),
        maybe=("weight_format",),
        small=("weight_format",),
        shape=_bnb_8bit,
        matrix=packed.bnb_8bit,
    ),
    "gptq": MatrixFormat(
        numbers="qweight", dtypes=("I32",), beside=("qzeros", "scales"), maybe=("g_idx",), small=("g_idx",), shape=_gptq, matrix=packed.gptq
    ),
    "awq": MatrixFormat(numbers="qweight", dtypes=("I32",), beside=("qzeros", "scales"), shape=_awq, matrix=packed.awq),
    "packed": MatrixFormat(
        numbers="weight_packed",
        dtypes=("I32",),
        beside=("weight_scale", "weight_shape"),
        maybe=("weight_zero_point", "weight_g_idx"),
        small=("weight_shape", "weight_g_idx"),
        shape=_packed,
        matrix=packed.packed,
    ),
    "fp4": MatrixFormat(
        numbers="weight_packed",
        dtypes=("U8",),
        beside=("weight_scale",),
        maybe=("weight_global_scale",),
        shape=_fp4,
        matrix=packed.fp4,
    ),
    "affine": MatrixFormat(
        numbers="weight", dtypes=("U32",), beside=("scales",), one_of=("biases", "qbiases"), shape=_affine, matrix=packed.affine
    ),
}
"""But for `scaled`, where each tensor is looked at by itself."""
