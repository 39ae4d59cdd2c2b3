"""Up to three changes to a manifest that does not fit, each checked and estimated like a plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.api.job.resources import MOST_NODES
from llmtrain_operator.manifest.divisors import divisors
from llmtrain_operator.manifest.edit import Changes, edited
from llmtrain_operator.plan.engines.registry import ENGINES
from llmtrain_operator.plan.layout.hardware import PRODUCTS
from llmtrain_operator.plan.search.auto_layout import choose
from llmtrain_operator.plan.search.candidate import FeasibleLayout, try_lay_out
from llmtrain_trainer.config import Offload, Peft
from llmtrain_trainer.config.tables.engines import ENGINE_FACTS

MOST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """Fields to set, and the estimates with them."""

    changes: tuple[tuple[str, Any], ...]
    peak_bytes: int
    budget_bytes: int
    tokens_per_second: float | None


def alternatives(layout: FeasibleLayout) -> tuple[Alternative, ...]:
    """The first changes that fit, small ones first: recomputation, micro-batch, sharding, degrees, offload, LoRA, engine, nodes, GPU."""
    found: list[Alternative] = []
    for changes in _candidates(layout):
        gpu = layout.gpu if "spec.resources.gpu" not in changes else next(g for g in PRODUCTS if g.name == changes["spec.resources.gpu"])
        other = try_lay_out(edited(layout.job, changes), layout.shape, gpu)
        if isinstance(other, FeasibleLayout) and other.fits and other.memory and other.memory.budget:
            rate = other.throughput.tokens_per_second if other.throughput else None
            entries = tuple((path, _plain(value)) for path, value in changes.items())
            found.append(
                Alternative(changes=entries, peak_bytes=other.memory.peak, budget_bytes=other.memory.budget, tokens_per_second=rate)
            )
        if len(found) == MOST:
            break
    return tuple(found)


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json", by_alias=True, exclude_unset=True) if isinstance(value, Peft | Offload) else value


def _candidates(layout: FeasibleLayout) -> Iterator[Changes]:
    training, mesh = layout.job.spec.training, layout.mesh
    recompute: dict[str, Any] = {} if training.activation_checkpointing == "full" else {"spec.training.activationCheckpointing": "full"}
    micro: dict[str, Any] = {"spec.training.microBatchSize": 1} if training.micro_batch_size > 1 else {}
    most = max(ENGINES[layout.engine].sharding_stages, default=0)
    zero: dict[str, Any] = {"spec.parallelism.zeroStage": most} if mesh.zero_stage < most and mesh.dp > 1 else {}
    for first in (recompute, micro, zero):
        if first:
            yield first
    if recompute and micro:
        yield recompute | micro
    if zero and (recompute or micro):
        yield zero | recompute | micro
    yield from _other_layouts(layout)
    if ENGINE_FACTS[layout.engine].offloads:
        yield from _offloads(layout, recompute | micro)
    if lora := _lora(layout):
        yield lora
        if recompute or micro:
            yield lora | recompute | micro
    yield from _other_engines(layout, recompute | micro)
    yield from _more(layout, recompute | micro | zero)


def _other_layouts(layout: FeasibleLayout) -> Iterator[Changes]:
    """The layouts that auto would choose on the same devices."""
    axes = ("tensor", "pipeline", "context", "expert", "data")
    for stage in ENGINES[layout.engine].sharding_stages:
        freed = {f"spec.parallelism.{axis}": None for axis in axes} | {"spec.parallelism.zeroStage": stage}
        chosen, _ = choose(edited(layout.job, freed), layout.shape, layout.gpu)
        if found := _differences(layout, chosen):
            yield found


def _differences(layout: FeasibleLayout, new: LLMTrainJob) -> Changes:
    before, after = layout.job.spec, new.spec
    pairs: dict[str, tuple[Any, Any]] = {
        f"spec.parallelism.{axis}": (getattr(before.parallelism, axis) or 1, getattr(after.parallelism, axis) or 1)
        for axis in ("tensor", "pipeline", "context", "expert")
    } | {
        "spec.parallelism.zeroStage": (layout.mesh.zero_stage, after.parallelism.zero_stage),
        "spec.training.microBatchSize": (before.training.micro_batch_size, after.training.micro_batch_size),
        "spec.training.activationCheckpointing": (before.training.activation_checkpointing, after.training.activation_checkpointing),
    }
    changes: dict[str, Any] = {path: value for path, (was, value) in pairs.items() if was != value}
    return changes | ({"spec.parallelism.data": None} if changes and before.parallelism.data else {})


def _offloads(layout: FeasibleLayout, savings: Changes) -> Iterator[Changes]:
    """Offload of sharded state to host memory; the plan then says how much host memory it needs."""
    if layout.gpu is None or layout.job.spec.parallelism.offload or layout.mesh.pp > 1:
        return
    for offload in (Offload(optimizer="cpu"), Offload(optimizer="cpu", parameters="cpu")):
        changes = {"spec.parallelism.zeroStage": 3, "spec.parallelism.offload": offload}
        yield changes
        if savings:
            yield {**changes, **savings}


def _other_engines(layout: FeasibleLayout, savings: Changes) -> Iterator[Changes]:
    """The other engines with the same degrees and as much sharding as they support, then with offload if they have it."""
    for engine in ENGINES:
        if engine == layout.engine or layout.job.spec.parallelism.offload or layout.job.spec.parallelism.deepspeed:
            continue
        given = layout.job.spec.parallelism.zero_stage is not None
        changes: dict[str, Any] = {"spec.parallelism.engine": engine} | ({"spec.parallelism.zeroStage": None} if given else {})
        yield changes
        if savings:
            yield {**changes, **savings}
        if ENGINE_FACTS[engine].offloads:
            yield from ({**changes, **away} for away in _offloads(layout, savings))


def _lora(layout: FeasibleLayout) -> dict[str, Any]:
    """Adapters instead of full training, if there are pretrained weights."""
    spec = layout.job.spec
    pretrained = spec.model.source is not None and spec.model.init == "pretrained"
    return {"spec.peft": Peft()} if pretrained and spec.peft is None else {}


def _more(layout: FeasibleLayout, savings: Changes) -> Iterator[Changes]:
    """More nodes with the same model parallelism, while the batch divides; then a larger GPU."""
    spec, mesh = layout.job.spec, layout.mesh
    passes = layout.job.spec.training.global_batch_size
    for factor in divisors(max(1, passes // mesh.dp))[1:]:
        if mesh.nodes * factor > MOST_NODES:
            break
        nodes: dict[str, Any] = {"spec.resources.nodes": mesh.nodes * factor} | (
            {"spec.parallelism.data": None} if spec.parallelism.data else {}
        )
        yield nodes
        if savings:
            yield {**nodes, **savings}
    if layout.gpu:
        for gpu in sorted(
            (g for g in PRODUCTS if g.memory_bytes > layout.gpu.memory_bytes and g.domain >= 8), key=lambda g: g.memory_bytes
        ):
            yield {"spec.resources.gpu": gpu.name}
            if savings:
                yield {"spec.resources.gpu": gpu.name, **savings}
