"""How many weights a rank holds, after tensor and pipeline parallelism and before the data-parallel ranks share."""

from __future__ import annotations

from dataclasses import dataclass

from llmtrain_operator.plan.model.shape import Matrix, ModelShape
from llmtrain_trainer.config import Mesh, Peft


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Weights of one pipeline rank, on one of its tensor ranks. Floats, because uneven norms and adapters are averaged."""

    kinds: tuple[tuple[int, int], ...]
    """One layer of each kind it has, and how many of that kind."""

    layers: float
    """Matrices and norms of its layers, experts not counted."""

    experts: float
    """Of its part of the experts."""

    ends: float
    """Token table, positions, final norm and output matrix, where it has them."""

    adapter: float
    trained: float
    """The adapters, or all of it but the experts."""

    trained_experts: float
    """The experts, without adapters."""

    largest_layer: float
    """With its experts."""

    @property
    def count(self) -> int:
        """How many layers it has."""
        return sum(count for _, count in self.kinds)

    @property
    def total(self) -> float:
        return self.layers + self.experts + self.ends + self.adapter

    @property
    def all_trained(self) -> float:
        return self.trained + self.trained_experts


def held(shape: ModelShape, mesh: Mesh, peft: Peft | None, rank: int) -> Held:
    """What pipeline rank `rank` holds: stages rank, rank + pp, rank + 2 pp, ..."""
    kinds = kinds_held(shape, mesh, rank)
    each = {layer: layer_weights(shape, layer, mesh.tp) for layer, _ in kinds}
    parts = {layer: expert_weights(shape, layer, mesh.tp, mesh.ep) for layer, _ in kinds}
    layers, experts = sum(count * each[layer] for layer, count in kinds), sum(count * parts[layer] for layer, count in kinds)
    ends = _ends(shape, mesh.tp, first=rank == 0, last=rank == mesh.pp - 1)
    adapter = sum(count * adapter_weights(shape, peft, layer, mesh.tp) for layer, count in kinds) if peft else 0.0
    return Held(
        kinds=kinds,
        layers=layers,
        experts=experts,
        ends=ends,
        adapter=adapter,
        trained=adapter if peft else layers + ends,
        trained_experts=0.0 if peft else experts,
        largest_layer=max(each[layer] + parts[layer] for layer, _ in kinds),
    )


def kinds_held(shape: ModelShape, mesh: Mesh, rank: int) -> tuple[tuple[int, int], ...]:
    """The layers of a pipeline rank by kind, as `ModelShape.kinds` has them."""
    found: dict[int, int] = {}
    for stage in mesh.stages[rank :: mesh.pp]:
        for layer, count in shape.kinds(*stage):
            found[layer] = found.get(layer, 0) + count
    return tuple(found.items())


def layer_weights(shape: ModelShape, layer: int, tp: int) -> float:
    """Weights of a layer on one tensor rank, experts not counted: split matrices in tp parts, norms and routers whole."""
    matrices = shape.matrices(layer)
    norms = shape.layer_parameters(layer) - sum(matrix.parameters for matrix in matrices)
    return norms + sum(matrix.parameters / (tp if matrix.split != "none" else 1) for matrix in matrices if matrix.copies == 1)


def expert_weights(shape: ModelShape, layer: int, tp: int, ep: int) -> float:
    """Weights of a layer's experts on one rank of tp x ep."""
    return sum(matrix.parameters for matrix in shape.matrices(layer) if matrix.copies > 1) / (tp * ep)


def adapter_weights(shape: ModelShape, peft: Peft, layer: int, tp: int) -> float:
    """LoRA's A (rank x inputs) and B (outputs x rank) of a layer on one tensor rank; the factor next to the split side is split too."""
    targets = shape.linears("all-linear" if "all-linear" in peft.target_modules else peft.target_modules, layer)
    return sum(_adapter(matrix, peft.rank, tp) for matrix in targets)


def _adapter(matrix: Matrix, rank: int, tp: int) -> float:
    inputs = matrix.inputs / (tp if matrix.split == "row" else 1)
    outputs = matrix.outputs / (tp if matrix.split == "column" else 1)
    return rank * (inputs + outputs) * matrix.copies


def _ends(shape: ModelShape, tp: int, *, first: bool, last: bool) -> float:
    """A tied table stands on the first and on the last pipeline rank, once where they are the same."""
    parts = shape.vocabulary_parts(tp)
    table = shape.embedding_parameters / parts if first else 0.0
    head = shape.vocab * shape.hidden / parts if last and not (first and shape.tied) else 0.0
    return table + head + (shape.final_norm_parameters if last else 0)
