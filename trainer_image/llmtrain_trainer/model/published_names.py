"""How published files name the weights of MoE layers: one tensor per expert and projection, where transformers' models hold fused ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import torch

from llmtrain_trainer.config.tables.families import FAMILIES, MIXTRAL_NAMES, family_named

Index = tuple[int | slice, ...]
"""Where a published tensor is inside a fused one."""


PUBLISHED = tuple({names: None for names in (FAMILIES[family].published for family in FAMILIES) if names is not None})
"""Every way of naming, each once."""

_FUSED = re.compile(r"(.+\.)mlp\.experts\.(gate_up_proj|down_proj)")
_SINGLE = re.compile(r"(.+\.)(block_sparse_moe|mlp)\.experts\.(\d{1,6})\.(\w+)\.weight")
_ROUTER = ".mlp.gate."


def split(model_type: str, name: str, shape: Sequence[int]) -> Iterator[tuple[str, Index]]:
    """(name in a published file, place in the weight) of every part of a model's weight; of most weights itself."""
    names = family_named(model_type).published
    fused = _FUSED.fullmatch(name)
    if names is None or fused is None:
        yield renamed(model_type, name.replace(_ROUTER, f".{names.block}.gate.") if names else name), ()
        return
    parts = names.into if fused[2] == "gate_up_proj" else (names.out,)
    rows = shape[1] // len(parts)
    for expert in range(shape[0]):
        for number, part in enumerate(parts):
            yield f"{fused[1]}{names.block}.experts.{expert}.{part}.weight", (expert, slice(number * rows, (number + 1) * rows))


def renamed(model_type: str, name: str) -> str:
    """What published files call a weight that their whole family calls otherwise."""
    for here, there in family_named(model_type).renamed.items():
        if name.startswith(f"{here}."):
            return there + name.removeprefix(here)
    return name


@dataclass(frozen=True, slots=True)
class Recipe:
    """How tensors of the files make one weight of a model."""

    rows: tuple[tuple[str, ...], ...]
    """Tensors that stand one below the other; several rows are stacked to a new first dimension."""

    stacked: bool = False
    part: tuple[int, int, int] | None = None
    """Of a fused weight [experts, outputs, inputs]: the expert, and which part of how many equal ones of its outputs."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for row in self.rows for name in row)

    def shape(self, shapes: Mapping[str, Sequence[int]]) -> tuple[int, ...]:
        """Of the weight that comes out, from the shapes of the tensors."""
        first = shapes[self.rows[0][0]]
        if self.part is not None:
            return (first[1] // self.part[2], *first[2:])
        whole = (sum(shapes[name][0] for name in self.rows[0]), *first[1:]) if first else ()
        return (len(self.rows), *whole) if self.stacked else whole

    def made(self, read: Callable[[str], torch.Tensor]) -> torch.Tensor:
        """The weight, of the shape that `shape` gives, in the dtype of the files."""
        rows = [torch.cat([read(name) for name in row]) if len(row) > 1 else read(row[0]) for row in self.rows]
        if self.part is not None:
            expert, number, of = self.part
            return rows[0][expert].chunk(of)[number]
        return torch.stack(rows) if self.stacked else rows[0]


def recipe_of(name: str, files: Mapping[str, Sequence[int]]) -> Recipe | None:
    """What makes the weight `name`, fused or of one expert, of tensors in `files` (name -> shape); None where they lack it.

    Where the files do not hold all experts, the weight comes out with those before the first that is missing.
    """
    if name in files:
        return Recipe(((name,),))
    for here, there in ((_ROUTER, f".{MIXTRAL_NAMES.block}.gate."), (f".{MIXTRAL_NAMES.block}.gate.", _ROUTER)):
        if (renamed := name.replace(here, there)) != name and renamed in files:
            return Recipe(((renamed,),))
    if fused := _FUSED.fullmatch(name):
        return _of_experts(fused[1], fused[2], files)
    if single := _SINGLE.fullmatch(name):
        return _of_fused(single, files)
    return None


def _of_experts(layer: str, projection: str, files: Container[str]) -> Recipe | None:
    for names in PUBLISHED:
        parts = names.into if projection == "gate_up_proj" else (names.out,)
        rows: list[tuple[str, ...]] = []
        for expert in count():
            members = tuple(f"{layer}{names.block}.experts.{expert}.{part}.weight" for part in parts)
            if not all(member in files for member in members):
                break
            rows.append(members)
        if rows:
            return Recipe(tuple(rows), stacked=True)
    return None


def _of_fused(single: re.Match[str], files: Mapping[str, Sequence[int]]) -> Recipe | None:
    for names in PUBLISHED:
        if single[2] != names.block or single[4] not in (*names.into, names.out):
            continue
        projection = "down_proj" if single[4] == names.out else "gate_up_proj"
        parts = (names.out,) if single[4] == names.out else names.into
        fused = f"{single[1]}mlp.experts.{projection}"
        if fused in files and len(files[fused]) == 3 and int(single[3]) < files[fused][0]:
            return Recipe(((fused,),), part=(int(single[3]), parts.index(single[4]), len(parts)))
    return None
