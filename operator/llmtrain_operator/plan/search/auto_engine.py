"""parallelism.engine: auto: which engine trains a job, and why.

The order of thought: what one engine alone has decides; else megatron for the sizes it is made for, and native for the rest; where that
one cannot or does not fit, the next one that can; last DeepSpeed with what does not fit in host memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.manifest.edit import Changes, edited
from llmtrain_operator.manifest.problem import Problem
from llmtrain_operator.plan.layout.hardware import Gpu
from llmtrain_operator.plan.model.shape import ModelShape
from llmtrain_operator.plan.search.auto_layout import choose
from llmtrain_operator.plan.search.candidate import Settled, valid
from llmtrain_trainer.config import EngineName, Offload

ENGINES: tuple[EngineName, ...] = ("native", "deepspeed", "megatron")

LARGE = 30e9
"""Parameters from which on Megatron's fused kernels are worth a model of its own. A judgement: published speeds differ most there."""

MANY = 16
"""GPUs from which on the same holds. A judgement."""

ENGINE, OFFLOAD, ZERO = "spec.parallelism.engine", "spec.parallelism.offload", "spec.parallelism.zeroStage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picked:
    """The manifest with the engine filled in, and one sentence that says why; None where the manifest names the engine."""

    job: LLMTrainJob
    why: str | None


def pick(job: LLMTrainJob, shape: ModelShape | None, gpu: Gpu | None) -> Picked:
    """Where no engine can train the job it comes back with the first choice, to be refused with that engine's reasons."""
    if job.spec.parallelism.engine != "auto":
        return Picked(job=job, why=None)
    first, reason = _first(job, shape, gpu)
    if first == "deepspeed":
        return _filled(job, {ENGINE: first}, reason)
    passed: list[str] = []
    for changes in _in_order(job, first, gpu):
        found = attempt(edited(job, changes), shape, gpu)
        if isinstance(found, Settled) and found.fits:
            return _filled(job, changes, _sentence(changes, reason, passed))
        passed.append(f"{_named(changes)} {_against(found)}")
    return _filled(job, {ENGINE: first}, f"Engine {first}, though none can train this as it stands: {'; '.join(passed)}.")


def attempt(job: LLMTrainJob, shape: ModelShape | None, gpu: Gpu | None) -> Settled | Problem:
    """The job with its engine, laid out as `auto: true` would where that is set."""
    laid_out, _ = choose(job, shape, gpu) if job.spec.parallelism.auto else (job, ())
    return valid(laid_out, shape, gpu)


def _first(job: LLMTrainJob, shape: ModelShape | None, gpu: Gpu | None) -> tuple[EngineName, str]:
    """The engine to ask first, and the reason as a clause."""
    spec = job.spec
    for name in ("offload", "deepspeed"):
        if getattr(spec.parallelism, name):
            return "deepspeed", f"Engine deepspeed: it alone reads spec.parallelism.{name}."
    if shape is None:
        return "native", "the model's shape is not known yet, and native trains every layout"
    if spec.peft:
        return "native", f"{spec.peft.method} trains few weights, in Hugging Face's own layers"
    if gpu is None:
        return "native", "it runs on CPU processes, on which Megatron-core does not"
    gpus, large = spec.resources.nodes * (spec.resources.gpus_per_node or 1), f"{shape.parameters / 1e9:.3g}B parameters"
    if shape.parameters >= LARGE and gpus >= MANY and gpu.domain > 1:
        return "megatron", f"{large} in full on {gpus} linked GPUs gain most from its fused kernels and schedules"
    return "native", f"{large} on {gpus} GPUs need no other, and its checkpoints fit every layout"


def _in_order(job: LLMTrainJob, first: EngineName, gpu: Gpu | None) -> Iterator[Changes]:
    """What to try: the engines, then host memory for what does not fit beside GPUs."""
    for engine in (first, *(other for other in ENGINES if other != first)):
        yield {ENGINE: engine}
    if gpu is None or job.spec.resources.memory is None:
        return  # a node's host memory is not known, so nothing is moved there
    stage = job.spec.parallelism.zero_stage
    for offload in (Offload(optimizer="cpu"), Offload(optimizer="cpu", parameters="cpu")):
        yield {ENGINE: "deepspeed", OFFLOAD: offload} | ({ZERO: 3} if stage is None else {})


def _filled(job: LLMTrainJob, changes: Changes, why: str) -> Picked:
    return Picked(job=edited(job, changes), why=why)


def _named(changes: Changes) -> str:
    return f"{changes[ENGINE]} with offload" if OFFLOAD in changes else str(changes[ENGINE])


def _sentence(changes: Changes, reason: str, passed: list[str]) -> str:
    if not passed:
        return f"Engine {changes[ENGINE]}: {reason}."
    kept = changes.get(OFFLOAD)
    away = "" if kept is None else ", with the optimizer" + (" and the weights" if kept.parameters == "cpu" else "") + " in host memory"
    return f"Engine {changes[ENGINE]}{away}: {'; '.join(passed)}."


def _against(found: Settled | Problem) -> str:
    """Why not, as what follows an engine's name."""
    if isinstance(found, Problem):
        return f"is refused ({found.field} is {found.value}: {found.rule.rstrip('.')})"
    assert found.memory is not None and found.memory.budget is not None  # a plan without an estimate fits
    return f"needs {found.memory.peak / 2**30:.1f} GiB a rank, over the limit of {found.memory.budget / 2**30:.1f} GiB"
