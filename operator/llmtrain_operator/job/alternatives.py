"""What would fit, when the manifest does not: up to three changes to it, each checked and estimated like a plan. Called by plan.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llmtrain_operator.job.auto import choose
from llmtrain_operator.job.divisors import divisors
from llmtrain_operator.job.edit import Changes, edited
from llmtrain_operator.job.hardware import PRODUCTS
from llmtrain_operator.job.settle import Settled, valid
from llmtrain_operator.job.spec import LLMTrainJob
from llmtrain_trainer.config import Peft

MOST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """Fields to set, and what the plan would then expect."""

    changes: tuple[tuple[str, Any], ...]
    peak_bytes: int
    budget_bytes: int
    tokens_per_second: float | None


def alternatives(settled: Settled) -> tuple[Alternative, ...]:
    """The first changes that fit, small ones first: recomputation, micro-batch, shared weights, degrees, LoRA, nodes, GPU."""
    found: list[Alternative] = []
    for changes in _candidates(settled):
        gpu = settled.gpu if "spec.resources.gpu" not in changes else next(g for g in PRODUCTS if g.name == changes["spec.resources.gpu"])
        other = valid(edited(settled.job, changes), settled.shape, gpu)
        if isinstance(other, Settled) and other.fits and other.memory and other.memory.budget:
            rate = other.throughput.tokens_per_second if other.throughput else None
            entries = tuple((path, _plain(value)) for path, value in changes.items())
            found.append(
                Alternative(changes=entries, peak_bytes=other.memory.peak, budget_bytes=other.memory.budget, tokens_per_second=rate)
            )
        if len(found) == MOST:
            break
    return tuple(found)


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json", by_alias=True, exclude_unset=True) if isinstance(value, Peft) else value


def _candidates(settled: Settled) -> Iterator[Changes]:
    training, mesh = settled.job.spec.training, settled.mesh
    recompute: dict[str, Any] = {} if training.activation_checkpointing == "full" else {"spec.training.activationCheckpointing": "full"}
    micro: dict[str, Any] = {"spec.training.microBatchSize": 1} if training.micro_batch_size > 1 else {}
    zero: dict[str, Any] = {"spec.parallelism.zeroStage": 3} if mesh.zero_stage != 3 and mesh.dp > 1 else {}
    for first in (recompute, micro, zero):
        if first:
            yield first
    if recompute and micro:
        yield recompute | micro
    if zero and (recompute or micro):
        yield zero | recompute | micro
    if layout := _other_layout(settled):
        yield layout
    if lora := _lora(settled):
        yield lora
        if recompute or micro:
            yield lora | recompute | micro
    yield from _more(settled, recompute | micro | zero)


def _other_layout(settled: Settled) -> Changes:
    """What auto would choose on the same devices."""
    job = edited(
        settled.job,
        {
            "spec.parallelism.tensor": None,
            "spec.parallelism.pipeline": None,
            "spec.parallelism.context": None,
            "spec.parallelism.expert": None,
            "spec.parallelism.data": None,
            "spec.parallelism.zeroStage": 3,
        },
    )
    chosen, _ = choose(job, settled.shape, settled.gpu)
    return _differences(settled.job, chosen)


def _differences(old: LLMTrainJob, new: LLMTrainJob) -> Changes:
    before, after = old.spec, new.spec
    pairs = {
        "spec.parallelism.tensor": (before.parallelism.tensor or 1, after.parallelism.tensor or 1),
        "spec.parallelism.pipeline": (before.parallelism.pipeline or 1, after.parallelism.pipeline or 1),
        "spec.parallelism.context": (before.parallelism.context or 1, after.parallelism.context or 1),
        "spec.parallelism.expert": (before.parallelism.expert or 1, after.parallelism.expert or 1),
        "spec.parallelism.zeroStage": (3 if before.parallelism.zero_stage is None else before.parallelism.zero_stage, 3),
        "spec.training.microBatchSize": (before.training.micro_batch_size, after.training.micro_batch_size),
        "spec.training.activationCheckpointing": (before.training.activation_checkpointing, after.training.activation_checkpointing),
    }
    changes: dict[str, Any] = {path: value for path, (was, value) in pairs.items() if was != value}
    return changes | ({"spec.parallelism.data": None} if changes and before.parallelism.data else {})


def _lora(settled: Settled) -> dict[str, Any]:
    """Adapters instead of full training, where there are weights to adapt."""
    spec = settled.job.spec
    pretrained = spec.model.source is not None and spec.model.init == "pretrained"
    return {"spec.peft": Peft(method="lora")} if pretrained and spec.peft is None else {}


def _more(settled: Settled, savings: Changes) -> Iterator[Changes]:
    """More nodes with the same model parallelism, as far as the batch divides; then a larger GPU."""
    spec, mesh = settled.job.spec, settled.mesh
    passes = settled.job.spec.training.global_batch_size
    for factor in divisors(max(1, passes // mesh.dp))[1:]:
        nodes: dict[str, Any] = {"spec.resources.nodes": mesh.nodes * factor} | (
            {"spec.parallelism.data": None} if spec.parallelism.data else {}
        )
        yield nodes
        if savings:
            yield {**nodes, **savings}
    if settled.gpu:
        for gpu in sorted(
            (g for g in PRODUCTS if g.memory_bytes > settled.gpu.memory_bytes and g.domain >= 8), key=lambda g: g.memory_bytes
        ):
            yield {"spec.resources.gpu": gpu.name}
            if savings:
                yield {"spec.resources.gpu": gpu.name, **savings}
