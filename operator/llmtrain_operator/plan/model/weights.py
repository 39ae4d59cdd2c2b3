"""Number of parameters on a rank, after tensor and pipeline parallelism and before data-parallel sharding."""

from __future__ import annotations

from dataclasses import dataclass

from llmtrain_operator.plan.model.shape import Matrix, ModelShape
from llmtrain_trainer.config import Mesh, Peft
from llmtrain_trainer.config.tables.adapters import ADAPTERS


@dataclass(frozen=True, slots=True, kw_only=True)
class RankParameters:
    """Parameters of one pipeline rank, on one of its tensor ranks. Floats, because uneven norms and adapters are averaged."""

    kinds: tuple[tuple[int, int], ...]
    """(A layer of each kind, number of layers of that kind)."""

    layers: float
    """Matrices and norms of its layers, without experts."""

    experts: float
    """Its part of the experts."""

    embedding_and_head: float
    """Embedding, positions, final norm and LM head, if the rank has them."""

    adapter: float
    trained: float
    """The adapters, and what is trained in full beside them; without adapters everything except the experts."""

    trained_experts: float
    """The experts, if there are no adapters."""

    largest_layer: float
    """Its largest layer, with experts."""

    @property
    def count(self) -> int:
        """Number of layers."""
        return sum(count for _, count in self.kinds)

    @property
    def total(self) -> float:
        return self.layers + self.experts + self.embedding_and_head + self.adapter

    @property
    def all_trained(self) -> float:
        return self.trained + self.trained_experts


def held(shape: ModelShape, mesh: Mesh, peft: Peft | None, rank: int) -> RankParameters:
    """The parameters of pipeline rank `rank`, which has stages rank, rank + pp, rank + 2 pp, ..."""
    kinds = kinds_held(shape, mesh, rank)
    each = {layer: layer_weights(shape, layer, mesh.tp) for layer, _ in kinds}
    parts = {layer: expert_weights(shape, layer, mesh.tp, mesh.ep) for layer, _ in kinds}
    layers, experts = sum(count * each[layer] for layer, count in kinds), sum(count * parts[layer] for layer, count in kinds)
    embedding_and_head = _embedding_and_head(shape, mesh.tp, first=rank == 0, last=rank == mesh.pp - 1)
    adapter = sum(count * adapter_weights(shape, peft, layer, mesh.tp) for layer, count in kinds) if peft else 0.0
    in_full = head_in_full(shape, peft) if rank == mesh.pp - 1 else 0
    return RankParameters(
        kinds=kinds,
        layers=layers,
        experts=experts,
        embedding_and_head=embedding_and_head - in_full,
        adapter=adapter + in_full,
        trained=adapter + in_full if peft else layers + embedding_and_head,
        trained_experts=0.0 if peft else experts,
        largest_layer=max(each[layer] + parts[layer] for layer, _ in kinds),
    )


def kinds_held(shape: ModelShape, mesh: Mesh, rank: int) -> tuple[tuple[int, int], ...]:
    """The layers of a pipeline rank by kind, in the form of `ModelShape.kinds`."""
    found: dict[int, int] = {}
    for stage in mesh.stages[rank :: mesh.pp]:
        for layer, count in shape.kinds(*stage):
            found[layer] = found.get(layer, 0) + count
    return tuple(found.items())


def layer_weights(shape: ModelShape, layer: int, tp: int) -> float:
    """Parameters of a layer on one tensor rank, without experts: split matrices divided by tp, norms and routers replicated."""
    matrices = shape.matrices(layer)
    norms = shape.layer_parameters(layer) - sum(matrix.parameters for matrix in matrices)
    return norms + sum(matrix.parameters / (tp if matrix.split != "none" else 1) for matrix in matrices if matrix.copies == 1)


def expert_weights(shape: ModelShape, layer: int, tp: int, ep: int) -> float:
    """Parameters of a layer's experts on one rank of tp x ep."""
    return sum(matrix.parameters for matrix in shape.matrices(layer) if matrix.copies > 1) / (tp * ep)


def adapter_weights(shape: ModelShape, peft: Peft, layer: int, tp: int) -> float:
    """LoRA's A (rank x inputs) and B (outputs x rank) of a layer on one tensor rank, and DoRA's magnitudes (outputs). The factor at the
    split side is split."""
    targets = adapted(shape, peft, layer)
    magnitudes = sum(matrix.outputs for matrix in targets) if ADAPTERS[peft.method].magnitude else 0
    return magnitudes + sum(_adapter(matrix, peft.rank, tp) for matrix in targets)


def adapted(shape: ModelShape, peft: Peft, layer: int) -> tuple[Matrix, ...]:
    """The matrices of a layer that have an adapter."""
    return shape.linears("all-linear" if "all-linear" in peft.target_modules else peft.target_modules, layer)


def head_in_full(shape: ModelShape, peft: Peft | None) -> int:
    """Parameters of a head that is trained in full beside adapters: a classifier's."""
    return shape.classes * shape.hidden if peft else 0


def _adapter(matrix: Matrix, rank: int, tp: int) -> float:
    inputs = matrix.inputs / (tp if matrix.split == "row" else 1)
    outputs = matrix.outputs / (tp if matrix.split == "column" else 1)
    return rank * (inputs + outputs) * matrix.copies


def _embedding_and_head(shape: ModelShape, tp: int, *, first: bool, last: bool) -> float:
    """Parameters of embedding and LM head. Tied ones are on the first and on the last pipeline rank, once if these are the same."""
    table = shape.embedding_parameters / shape.vocabulary_parts(tp) if first else 0.0
    head = shape.outputs * shape.hidden / shape.output_parts(tp) if last and not (first and shape.shares_head) else 0.0
    return table + head + (shape.final_norm_parameters if last else 0)
