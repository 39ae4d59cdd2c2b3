"""`parallelism.auto`: checks and estimates every layout that the given degrees allow, and chooses the cheapest that fits, with reasons.

It prefers no model parallelism while sharding over data parallelism fits; then tensor parallelism inside a node; then a pipeline;
context parallelism inside a node for long sequences, expert parallelism over replicas; recomputation if it saves more than it costs. The
relative cost expresses this in one number.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from math import log2

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.manifest.divisors import divisors
from llmtrain_operator.manifest.edit import edited
from llmtrain_operator.manifest.problem import Problem
from llmtrain_operator.plan.engines.registry import ENGINES
from llmtrain_operator.plan.layout.hardware import Gpu
from llmtrain_operator.plan.layout.throughput import RECOMPUTED, bubble_share
from llmtrain_operator.plan.model.shape import ModelShape
from llmtrain_operator.plan.search.candidate import FeasibleLayout, try_lay_out
from llmtrain_trainer.config.formats import size

TENSOR_COST = 0.06
"""Relative time lost per doubling of the tensor degree, if no GPU is named. A judgement, not a measurement."""

REACHED_LINK, REACHED_PEAK = 0.8, 0.4
"""Shares of the data-sheet speed of a link and of a GPU that all-reduces and matrix products reach. Judgements."""

PIPELINE_COST = 0.02
"""Relative time lost per doubling of the pipeline degree, in addition to the bubble. A judgement, not a measurement."""

CONTEXT_COST = 0.04
"""Relative time lost per doubling of the context degree: four all-to-alls per layer, of heads. A judgement, not a measurement."""

EXPERT_COST = 0.03
"""Relative time lost per doubling of the expert degree: two all-to-alls per layer, of tokens, and waiting for the rank with the most
tokens. A judgement, not a measurement."""

LONG_SEQUENCE = 16_384
"""Tokens from which on context parallelism is considered; below, tensor parallelism and recomputation suffice."""

SMALL_PASS = 512
"""Tokens of a forward pass at which matrix products reach half of their speed; in proportion for split matrices. A judgement."""

LARGEST_PIPELINE = 64

MOST_DEGREES, MOST_MICROS = 96, 12
"""Most combinations of degrees, and micro-batch sizes of each, that are checked: numbers with many divisors would take hours."""

_BY_MICRO = ("spec.training.microBatchSize", "spec.training.globalBatchSize")
"""Fields of refusals that depend on the micro-batch size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A valid layout and its relative cost; 1 is a step without any loss to parallelism."""

    layout: FeasibleLayout
    cost: float

    @property
    def tensor(self) -> int:
        return self.layout.mesh.tp

    @property
    def pipeline(self) -> int:
        return self.layout.mesh.pp

    @property
    def context(self) -> int:
        return self.layout.mesh.cp

    @property
    def expert(self) -> int:
        return self.layout.mesh.ep

    @property
    def zero(self) -> int:
        return self.layout.mesh.zero_stage

    @property
    def micro(self) -> int:
        return self.layout.batch.micro_size

    @property
    def recomputes(self) -> bool:
        return self.layout.job.spec.training.activation_checkpointing == "full"

    @property
    def peak(self) -> int:
        return self.layout.memory.peak if self.layout.memory else 0


def choose(job: LLMTrainJob, shape: ModelShape | None, gpu: Gpu | None) -> tuple[LLMTrainJob, tuple[str, ...]]:
    """The manifest with the choice filled in, and the reasons. Without a valid candidate it is returned unchanged, to be refused.

    If nothing fits, the candidate that needs the least memory is chosen: plan.py then says by how much it does not fit.
    """
    if shape is None or not shape.counted:
        return job, (f"The model's shape is unknown{'' if shape else ' yet'}, so auto leaves every absent degree at 1.",)
    ways, left_out = _bounded(tuple(_degrees(job, shape, gpu)))
    found = [candidate for degrees in ways for candidate in _along(job, shape, gpu, degrees)]
    if not found:
        return job, ()
    fitting = [candidate for candidate in found if candidate.layout.fits]
    best = min(fitting, key=_preference) if fitting else min(found, key=lambda c: (c.peak, c.cost))
    return best.layout.job, (_counted(found, fitting), *_cut_short(ways, left_out), *(_reasons(best, found) if fitting else ()))


def _preference(candidate: Candidate) -> tuple[float, int, float, int]:
    """Sort key: the cheapest; among equal costs to 1/100, the one that splits the model least."""
    return round(candidate.cost, 2), candidate.tensor * candidate.pipeline * candidate.context, candidate.cost, candidate.peak


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """Degrees whose product is the number of devices. Micro-batch size and recomputation are still open."""

    tp: int
    pp: int
    cp: int
    ep: int
    zero: int | None
    micros: tuple[int, ...]
    exchange: float
    """Communication cost of the degrees: see `exchange_cost`."""


def exchange_cost(tensor: float, *, pp: int, cp: int, ep: int) -> float:
    """Communication time over the time of matrix products; `tensor` is the part of tensor parallelism."""
    return tensor + PIPELINE_COST * log2(pp) + CONTEXT_COST * log2(cp) + EXPERT_COST * log2(ep)


def tensor_cost(shape: ModelShape | None, gpu: Gpu | None, tp: int) -> float:
    """Time of a layer's all-reduces over the time of its matrix products: 8 h (t - 1) / t values of 2 bytes per token (Narayanan et al.
    2021, section 3.2) over the link in one direction, and 6 FLOPs per parameter that multiplies a token. Small models lose most."""
    if shape is None or gpu is None:
        return TENSOR_COST * log2(tp)
    traffic = 16 * shape.hidden * (tp - 1) / tp / (REACHED_LINK * gpu.link_bytes_per_second / 2)
    weights = (shape.matmul_parameters - shape.outputs * shape.hidden) / shape.layers
    return traffic / (6 * weights / tp / (REACHED_PEAK * gpu.peak_flops("bf16")))


def _degrees(job: LLMTrainJob, shape: ModelShape, gpu: Gpu | None) -> Iterator[Ways]:
    """Every combination of the degrees that are not given."""
    parallel, resources, training = job.spec.parallelism, job.spec.resources, job.spec.training
    procs = resources.ranks_per_node
    world = resources.nodes * procs
    stages = tuple(pp for pp in divisors(world) if pp * parallel.virtual_stages <= min(shape.layers, LARGEST_PIPELINE))
    tensors = (parallel.tensor,) if parallel.tensor else divisors(procs)
    pipelines = (parallel.pipeline,) if parallel.pipeline else stages
    costs = {tp: tensor_cost(shape, gpu, tp) for tp in tensors}
    for tp, pp, cp in product(tensors, pipelines, _contexts(job, procs)):
        dp, rest = divmod(world, tp * pp * cp)
        if rest or training.global_batch_size % dp or (not parallel.context and procs % (tp * cp)):
            continue
        micros = _micros(training.global_batch_size // dp)
        for ep, zero in product(_experts(job, shape, dp * cp), _stages(job, pp)):
            cost = exchange_cost(costs[tp], pp=pp, cp=cp, ep=ep)
            yield Ways(tp=tp, pp=pp, cp=cp, ep=ep, zero=zero, micros=micros, exchange=cost)


@cache
def _micros(most: int) -> tuple[int, ...]:
    """Micro-batch sizes that divide a replica's share of the batch; of very many, the largest up to each power of two."""
    found = divisors(most)
    if len(found) <= MOST_MICROS:
        return found
    below = (found[bisect_right(found, 2**power) - 1] for power in range(MOST_MICROS))
    return tuple(dict.fromkeys(below))


def _bounded(ways: tuple[Ways, ...]) -> tuple[tuple[Ways, ...], int]:
    """(Combinations to check, number left out). Of too many, the cheapest half and as many evenly spread over the rest, for models
    that only fit there."""
    if len(ways) <= MOST_DEGREES:
        return ways, 0
    cheapest = sorted(ways, key=lambda each: each.exchange)
    half = MOST_DEGREES // 2
    rest = cheapest[half:]
    kept = (*cheapest[:half], *(rest[index * len(rest) // half] for index in range(half)))
    return kept, len(ways) - len(kept)


def _along(job: LLMTrainJob, shape: ModelShape, gpu: Gpu | None, ways: Ways) -> Iterator[Candidate]:
    """The candidates with these degrees. Micro-batches larger than one that does not fit are skipped."""
    for recompute in ("none", "full"):
        for micro in ways.micros:
            changes = {
                "spec.parallelism.tensor": ways.tp,
                "spec.parallelism.pipeline": ways.pp,
                "spec.training.microBatchSize": micro,
                "spec.training.activationCheckpointing": recompute,
                "spec.parallelism.zeroStage": ways.zero,
            } | {f"spec.parallelism.{name}": degree for name, degree in (("context", ways.cp), ("expert", ways.ep)) if degree > 1}
            layout = try_lay_out(edited(job, changes), shape, gpu)
            if isinstance(layout, Problem):
                if layout.field not in _BY_MICRO:
                    return  # refused for every micro-batch size
                continue
            yield Candidate(layout=layout, cost=relative_cost(layout))
            if not layout.fits:
                break


def _stages(job: LLMTrainJob, pp: int) -> tuple[int | None, ...]:
    """ZeRO stages to check: the given one; without a pipeline those of the engine; else the engine's default."""
    given, engine = job.spec.parallelism.zero_stage, job.spec.parallelism.engine
    return ENGINES[engine].searched_stages if given is None and engine != "auto" and pp == 1 else (given,)


def _contexts(job: LLMTrainJob, procs: int) -> tuple[int, ...]:
    """Context degrees to check: the given one; for long sequences those inside a node; else 1."""
    given, attention = job.spec.parallelism.context, job.spec.model.attention
    if given:
        return (given,)
    return divisors(procs) if job.spec.training.sequence_length >= LONG_SEQUENCE and attention == "sdpa" else (1,)


def _experts(job: LLMTrainJob, shape: ModelShape, replicas: int) -> tuple[int, ...]:
    """Expert degrees to check: the given one, else those that divide experts and replicas."""
    given = job.spec.parallelism.expert
    if given or not shape.experts:
        return (given or 1,)
    return tuple(degree for degree in divisors(shape.experts) if replicas % degree == 0)


def relative_cost(layout: FeasibleLayout) -> float:
    """Time of a step over the time of one without bubble, recomputation, communication or small matrices."""
    mesh, training = layout.mesh, layout.job.spec.training
    again = RECOMPUTED if training.activation_checkpointing == "full" else 1.0
    exchange = 1 + exchange_cost(tensor_cost(layout.shape, layout.gpu, mesh.tp), pp=mesh.pp, cp=mesh.cp, ep=mesh.ep)
    tokens = layout.batch.micro_size * training.sequence_length / mesh.cp / mesh.tp
    exchange += ENGINES[layout.engine].sharding_cost.get(mesh.zero_stage, 0.0)
    return again * exchange * (1 + SMALL_PASS / tokens) / (1 - bubble_share(mesh, layout.batch))


def _counted(found: list[Candidate], fitting: list[Candidate]) -> str:
    fit = f"{len(fitting)} fit" if fitting else "none fits, so this is the one that needs the least memory"
    return f"Of {len(found)} layouts that divide evenly and were checked, {fit}."


def _cut_short(ways: tuple[Ways, ...], left_out: int) -> tuple[str, ...]:
    if not left_out:
        return ()
    said = f"The devices can be divided in {len(ways) + left_out} ways, of which {len(ways)} were checked"
    return (f"{said}: set tensor, pipeline, context or expert to check the others.",)


def _reasons(best: Candidate, found: list[Candidate]) -> tuple[str, ...]:
    contexts, experts, zeros = ({getattr(c, axis) for c in found} for axis in ("context", "expert", "zero"))
    less_context, less_expert, less_zero = (
        [c for c in found if getattr(c, axis) < getattr(best, axis)] for axis in ("context", "expert", "zero")
    )
    return (
        _why(f"tensor {best.tensor}", best, [c for c in found if c.tensor < best.tensor], best.tensor == 1, _alone("tensor", best)),
        _why(
            f"pipeline {best.pipeline}",
            best,
            [c for c in found if c.pipeline < best.pipeline],
            best.pipeline == 1,
            _alone("pipeline", best),
        ),
        *([_why(f"context {best.context}", best, less_context, best.context == 1, _alone("context", best))] if len(contexts) > 1 else []),
        *([_why(f"expert {best.expert}", best, less_expert, best.expert == 1, _alone("expert", best))] if len(experts) > 1 else []),
        *([_why(f"zeroStage {best.zero}", best, less_zero, False, "")] if len(zeros) > 1 and less_zero else []),
        _why(
            "Recomputation" if best.recomputes else "No recomputation",
            best,
            _same(found, best, lambda c: not c.recomputes and c.micro <= best.micro),
            not best.recomputes,
            "No recomputation: the activations fit without it.",
        ),
        _micro(best, _same(found, best, lambda c: c.micro > best.micro and c.recomputes == best.recomputes)),
    )


def _same(found: list[Candidate], best: Candidate, also: Callable[[Candidate], bool]) -> list[Candidate]:
    """Candidates with the same degrees as `best` that satisfy `also`."""
    degrees = (best.tensor, best.pipeline, best.context, best.expert, best.zero)
    return [c for c in found if (c.tensor, c.pipeline, c.context, c.expert, c.zero) == degrees and also(c)]


def _alone(axis: str, best: Candidate) -> str:
    return f"{axis} 1: not needed, since it fits with {best.layout.mesh.dp} replicas, and {axis} parallelism adds communication."


def _why(what: str, best: Candidate, less: list[Candidate], least: bool, alone: str) -> str:
    """Why a lower degree was not chosen: invalid, does not fit, or slower."""
    if least:
        return alone
    if not less:
        return f"{what}: no lower setting divides the batch and the model evenly."
    fitting = [c for c in less if c.layout.fits]
    if not fitting:
        least_peak = min(c.peak for c in less)
        return f"{what}: at a lower setting each rank needs at least {size(least_peak)}, over the limit of {_budget(best)}."
    return f"{what}: at a lower setting a step is expected to take {min(c.cost for c in fitting) / best.cost:.2f} times as long."


def _micro(best: Candidate, larger: list[Candidate]) -> str:
    if not larger:
        return f"microBatchSize {best.micro}: the largest that the global batch allows."
    if fitting := [c for c in larger if c.layout.fits]:
        ratio = min(c.cost for c in fitting) / best.cost
        return f"microBatchSize {best.micro}: a larger one leaves the pipeline idle for longer ({ratio:.2f} times the step)."
    least = min(c.peak for c in larger)
    return f"microBatchSize {best.micro}: the next larger one needs {size(least)}, over the limit of {_budget(best)}."


def _budget(best: Candidate) -> str:
    budget = best.layout.memory.budget if best.layout.memory else None
    return size(budget or 0)
