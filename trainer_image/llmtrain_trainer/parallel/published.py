"""How published files name a mixture's weights: one tensor for each expert and projection, where transformers' models hold fused ones.

Used by materialize.py, which reads either, and export.py, which writes what is published.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

Index = tuple[int | slice, ...]
"""Where a published tensor is inside a fused one."""


@dataclass(frozen=True, slots=True)
class Names:
    """What the files of some families call the block, and inside it gate and up (rows of one fused tensor) and down."""

    block: str
    into: tuple[str, ...]
    out: str


MIXTRAL = Names("block_sparse_moe", ("w1", "w3"), "w2")
QWEN = Names("mlp", ("gate_proj", "up_proj"), "down_proj")
FAMILIES = {"mixtral": MIXTRAL, "qwen2_moe": QWEN, "qwen3_moe": QWEN}
_FUSED = re.compile(r"(.+\.)mlp\.experts\.(gate_up_proj|down_proj)")
_ROUTER = ".mlp.gate."


def split(model_type: str, name: str, shape: Sequence[int]) -> Iterator[tuple[str, Index]]:
    """(name in a published file, place in the weight) of every part of a model's weight; of most weights itself."""
    names = FAMILIES.get(model_type)
    fused = _FUSED.fullmatch(name)
    if names is None or fused is None:
        yield (name.replace(_ROUTER, f".{names.block}.gate.") if names else name), ()
        return
    parts = names.into if fused[2] == "gate_up_proj" else (names.out,)
    rows = shape[1] // len(parts)
    for expert in range(shape[0]):
        for number, part in enumerate(parts):
            yield f"{fused[1]}{names.block}.experts.{expert}.{part}.weight", (expert, slice(number * rows, (number + 1) * rows))


def parts_of(name: str, files: Container[str]) -> list[list[str]]:
    """For each expert the names whose tensors, one below the other, make its part of the weight `name`; [] where `files` have none."""
    if _ROUTER in name:
        renamed = name.replace(_ROUTER, f".{MIXTRAL.block}.gate.")
        return [[renamed]] if renamed in files else []
    fused = _FUSED.fullmatch(name)
    if fused is None:
        return []
    for names in (MIXTRAL, QWEN):
        parts = names.into if fused[2] == "gate_up_proj" else (names.out,)
        found: list[list[str]] = []
        for expert in count():
            members = [f"{fused[1]}{names.block}.experts.{expert}.{part}.weight" for part in parts]
            if members[0] not in files:
                break
            found.append(members)
        if found:
            return found
    return []
