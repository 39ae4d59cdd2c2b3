"""Bytes on the rank that needs most, term by term, and whether they fit.

The peak is at the start or at the end of the backward pass of the last micro-batch: at the start all activations are live, at the end all
gradients. Gradients of earlier micro-batches, weights and optimizer state are live at both. AdamW runs fused and needs no scratch memory.
`make memory` compares the sum of the terms for tensors with torch's allocator.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from llmtrain_operator.plan.memory import activations
from llmtrain_operator.plan.memory.workload import Term, Workload
from llmtrain_operator.plan.model.weights import RankParameters, adapted, held, kinds_held
from llmtrain_trainer.config.tables.adapters import ADAPTERS

GIB = 2**30
MIB = 2**20
FILL = 0.8
"""Share of a device's memory that a plan may use: none of 454 runs with an estimate below it ran out of memory (arXiv 2411.06465)."""

PROCESS = 500 * MIB
"""Resident set of a CPU rank before it has a model, forked from a server that has imported torch and transformers. Measured."""

HEAP = 0.25
"""Freed memory that malloc keeps on a CPU rank, as a share of its tensors. Measured between 0.2 and 1: docs/memory.md."""

SCRATCH = 220 * MIB
"""Most scratch memory of a CPU rank's matrix kernels; a small model uses about as much as its tensors. Fitted to runs."""

LOSS_CHUNK = 1 << 25
"""Logits per chunk of the loss on a GPU, if their gradient overwrites them: two fp32 tensors."""

CONTEXT = GIB // 2
"""CUDA context and libraries per process."""

COMMUNICATOR = GIB // 2
"""NCCL buffers per group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The estimate for the rank that needs most; its terms sum to its peak."""

    terms: tuple[Term, ...]
    pipeline_rank: int
    """The pipeline rank that needs most."""

    capacity: int | None
    """Bytes of the device, or a CPU rank's share of resources.memory; None if unknown."""

    @property
    def peak(self) -> int:
        return sum(term.bytes for term in self.terms)

    @property
    def budget(self) -> int | None:
        return None if self.capacity is None else int(FILL * self.capacity)

    @property
    def fits(self) -> bool:
        """Whether the peak is below the budget; True if the capacity is unknown."""
        return self.budget is None or self.peak < self.budget


def estimate_memory(workload: Workload, capacity: int | None) -> Memory:
    """The estimate for the pipeline rank that needs the most."""
    ranks = [Memory(terms=_rank_terms(workload, rank), pipeline_rank=rank, capacity=capacity) for rank in _ranks(workload)]
    return max(ranks, key=lambda memory: memory.peak)


def _ranks(workload: Workload) -> Iterable[int]:
    """The pipeline ranks that may need most: both ends, and the first of those between with the same layers, since it has the most
    micro-batches in flight."""
    last = workload.mesh.pp - 1
    found: dict[object, int] = {}
    for rank in range(workload.mesh.pp):
        found.setdefault((rank in (0, last), rank == last, kinds_held(workload.shape, workload.mesh, rank)), rank)
    return found.values()


def _rank_terms(workload: Workload, rank: int) -> tuple[Term, ...]:
    mine = held(workload.shape, workload.mesh, workload.peft, rank)
    tensors = max(_moments(workload, mine, rank), key=lambda terms: sum(term.bytes for term in terms))
    return tuple(term for term in (*tensors, *_overhead(workload, sum(term.bytes for term in tensors))) if term.bytes)


def _moments(workload: Workload, mine: RankParameters, rank: int) -> Iterator[tuple[Term, ...]]:
    """Live tensors at the start and at the end of the last backward pass."""
    shares, *weights, optimizer = _states(workload, mine)
    gradients = (
        shares
        if workload.engine.reduces_by_unit(workload) or not workload.engine.adds_up_whole_gradients(workload)
        else _unreduced_gradients(mine)
    )
    copies, bucket = tuple(workload.engine.working_copies(workload, mine)), workload.engine.bucket(workload, mine)
    early = (gradients,) if _gradients_stand(workload, rank) else ()
    filled = (bucket,) if workload.on_gpu or workload.mesh.zero_stage == 3 else ()  # on a CPU only touched pages count
    passing = max(_logits(workload, rank), _one_layer(workload, mine), key=lambda term: term.bytes)
    yield (*weights, *early, optimizer, *copies, *filled, *_activations(workload, mine, rank), *_lengths(workload, mine), passing)
    last = _reduction(workload, mine)
    if copy := workload.engine.step_copy(workload, mine):
        last = max(bucket, copy, key=lambda term: term.bytes)
    else:
        copies = (*copies, bucket)
    yield (*weights, gradients, optimizer, *copies, last)


def _gradients_stand(workload: Workload, rank: int) -> bool:
    """Whether gradients are live at the start of the last backward pass: of an earlier micro-batch, or in a permanent buffer."""
    return workload.engine.gradients_always_there(workload) or workload.batch.accumulation * workload.virtual > _chunks(workload, rank)


def _chunks(workload: Workload, rank: int) -> int:
    mesh = workload.mesh
    return activations.chunks_in_flight(
        mesh.schedule, pp=mesh.pp, rank=rank, virtual=workload.virtual, accumulation=workload.batch.accumulation
    )


def _states(workload: Workload, mine: RankParameters) -> Iterator[Term]:
    """The terms for gradients, weights (and adapter weights), and optimizer state."""
    mesh, precision = workload.mesh, workload.training.precision
    cost = workload.engine.trained(mesh.zero_stage, precision, workload.replicas, workload.away)
    expert = workload.engine.trained(mesh.zero_stage, precision, workload.replicas // mesh.ep, workload.away)
    experts = mine.trained_experts
    size = int(cost.gradients * mine.trained + expert.gradients * experts)
    yield Term(name="gradients", bytes=size, how=f"{cost.gradients:.3g} bytes per trained parameter")
    cut = f"; {expert.weights:.3g} for experts, over {workload.replicas // mesh.ep}" if mesh.ep > 1 else ""
    if workload.peft:
        base, other = _frozen(workload, workload.replicas), _frozen(workload, workload.replicas // mesh.ep)
        how = f"{base:.3g} bytes per parameter: frozen{cut}"
        yield Term(name="base weights", bytes=int(base * (mine.layers + mine.embedding_and_head) + other * mine.experts), how=how)
        how = f"{cost.weights:.3g} bytes per parameter: {cost.source}"
        yield Term(name="adapter weights", bytes=int(cost.weights * mine.adapter), how=how)
    else:
        size = int(cost.weights * mine.trained + expert.weights * experts)
        yield Term(name="weights", bytes=size, how=f"{cost.weights:.3g} bytes per parameter: {cost.source}{cut}")
    size = int(cost.optimizer * mine.trained + expert.optimizer * experts)
    yield Term(name="optimizer", bytes=size, how=f"{cost.optimizer:.3g} bytes per trained parameter")


def _frozen(workload: Workload, replicas: int) -> float:
    """Bytes per frozen parameter on the device."""
    return (
        0.0
        if workload.away.parameters != "none"
        else workload.engine.frozen(workload.mesh.zero_stage, workload.training.precision, replicas)
    )


def _unreduced_gradients(mine: RankParameters) -> Term:
    how = "4 bytes per trained parameter: unsharded gradients, kept until the last micro-batch is reduced"
    return Term(name="unreduced gradients", bytes=int(4 * mine.all_trained), how=how)


def _activations(workload: Workload, mine: RankParameters, rank: int) -> Iterator[Term]:
    mesh, tokens, element = workload.mesh, workload.tokens, workload.element
    chunks = _chunks(workload, rank)
    flight = chunks / workload.virtual
    if workload.training.activation_checkpointing == "full":
        each, what = activations.recomputed_bytes(workload.shape, element) / workload.sequence_parts * mine.count, "inputs"
    else:
        each, what = sum(count * _layer_bytes(workload, layer) for layer, count in mine.kinds), "all values"
    how = f"{what} of {mine.count} layers x {tokens} tokens x {flight:.3g} micro-batches in flight"
    yield Term(name="activations", bytes=int(flight * tokens * each), how=how)
    if mesh.pp > 1:
        size = 2 * chunks * tokens * element * workload.shape.hidden // workload.sequence_parts
        yield Term(name="stage borders", bytes=size, how=f"input and output of {chunks} forward passes of a stage")
    if workload.packed:
        seen = tokens * mesh.cp  # attention sees whole sequences
        size = seen * workload.training.sequence_length * (1 + element)
        how = f"{seen} x {workload.training.sequence_length} values, as a boolean mask and as an additive bias"
        yield Term(name="attention mask", bytes=size, how=how)


def _layer_bytes(workload: Workload, layer: int) -> float:
    mesh = workload.mesh
    moved = activations.context_values(workload.shape, tp=mesh.tp, cp=mesh.cp) + activations.expert_values(
        workload.shape, layer, tp=mesh.tp, ep=mesh.ep
    )
    if workload.peft and ADAPTERS[workload.peft.method].magnitude:
        moved += activations.magnitude_values(adapted(workload.shape, workload.peft, layer), mesh.tp)
    return workload.engine.layer_bytes(workload, layer) + workload.element * moved


def _lengths(workload: Workload, mine: RankParameters) -> Iterator[Term]:
    """What computes the lengths of rows for adapters with magnitudes, one matrix after the other."""
    if workload.peft and ADAPTERS[workload.peft.method].magnitude:
        size = max(activations.magnitude_scratch(adapted(workload.shape, workload.peft, layer)) for layer, _ in mine.kinds)
        yield Term(
            name="row lengths", bytes=workload.element * size, how="identity, product and sum of the largest matrix with a magnitude"
        )


def _one_layer(workload: Workload, mine: RankParameters) -> Term:
    """Backward pass of the widest layer: gradients of its values and, with recomputation, the values."""
    again = workload.training.activation_checkpointing == "full"
    values = max(activations.feed_forward_values(workload.shape, layer) for layer, _ in mine.kinds)
    parts = workload.sequence_parts
    hidden = workload.shape.hidden * (4 / parts + (2 if parts > 1 else 0))  # an input and a gradient are all-gathered to full sequences
    gradients = workload.element * (hidden + 0.75 * values / workload.mesh.tp)
    kept = max(_layer_bytes(workload, layer) for layer, _ in mine.kinds) if again else 0
    how = "gradients of one layer's values" + (", and the recomputed values" if again else "")
    return Term(name="one layer", bytes=int(workload.tokens * (gradients + kept) + _whole_gradients(workload, mine)), how=how)


def _whole_gradients(workload: Workload, mine: RankParameters) -> float:
    """Bytes of full gradients: of embedding and LM head until backward ends, and of one layer while it is reduced, also in fp32."""
    if not workload.engine.reduces_by_unit(workload) or workload.peft:
        return 0.0
    return workload.element * mine.embedding_and_head + (workload.element + 4 + 4 / workload.replicas) * mine.largest_layer


def _reduction(workload: Workload, mine: RankParameters) -> Term:
    """After backward: the gradients of embedding and LM head: full, an fp32 copy, and the shard."""
    size = (
        (workload.element + 4 + 4 / workload.replicas) * mine.embedding_and_head
        if workload.engine.reduces_by_unit(workload) and not workload.peft
        else 0
    )
    return Term(name="last reduction", bytes=int(size), how="gradients of embedding and LM head: full, fp32 copy, shard")


def _logits(workload: Workload, rank: int) -> Term:
    """The larger of the tensors of the loss, and the gradients of logits and LM head.

    The fp32 loss needs the log-softmax, its gradient and the gradient of the logits, unless they overwrite each other. GPipe keeps the
    tensors for backward of every micro-batch."""
    if rank != workload.mesh.pp - 1:
        return Term(name="logits", bytes=0, how="on the last stage only")
    shape, element = workload.shape, workload.element
    tp = shape.output_parts(workload.mesh.tp)
    waiting = workload.batch.accumulation - 1 if workload.mesh.pp > 1 and workload.mesh.schedule == "gpipe" else 0
    way = workload.engine.loss(workload, tp)
    part = shape.outputs if way.whole else shape.outputs // tp
    each = element * (1 + waiting) if way.overwritten else way.each + 4 * waiting
    gathered = workload.tokens * element * shape.outputs // tp if way.whole and tp > 1 else 0
    chunk = 8 * min(workload.tokens * part, LOSS_CHUNK) if way.overwritten and workload.on_gpu else 0
    loss = workload.tokens * part * each + max(gathered, chunk)
    matrix = 0 if workload.peft else element * shape.outputs * shape.hidden // tp
    backward = workload.tokens * part * element * (1 + waiting) + matrix
    how = f"{each} bytes x {workload.tokens} tokens x {part} of the vocabulary" + (", and a chunk in fp32" if chunk else "")
    if backward > loss:
        how = f"gradient of {workload.tokens} tokens x {part} of the vocabulary, and of the LM head"
    return Term(name="logits", bytes=max(loss, backward), how=how)


def _overhead(workload: Workload, tensors: int) -> Iterator[Term]:
    if not workload.on_gpu:
        yield Term(name="process", bytes=PROCESS, how="interpreter and libraries")
        size = int(HEAP * tensors) + min(tensors, SCRATCH)
        yield Term(name="heap", bytes=size, how=f"{HEAP:.0%} of the tensors, kept by malloc, and scratch memory of kernels")
        return
    groups = 1 + sum(degree > 1 for degree in (workload.mesh.pp, workload.mesh.dp, workload.mesh.cp, workload.mesh.tp, workload.mesh.ep))
    yield Term(name="CUDA context", bytes=CONTEXT, how="per process")
    yield Term(name="communicators", bytes=groups * COMMUNICATOR, how=f"0.5 GiB x {groups} groups of ranks")
