"""`parallelism.engine: auto`: which engine trains a job, and why.

A field that only one engine reads decides. Otherwise the first choice is an engine that wishes for the job (megatron for large models) and
native for the rest. If that engine refuses the job or does not fit, the next one that can train it is taken; at last an engine with offload
to host memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.manifest.edit import Changes, edited
from llmtrain_operator.manifest.problem import Problem
from llmtrain_operator.plan.engines.registry import ENGINES, FALLBACK
from llmtrain_operator.plan.layout.hardware import Gpu
from llmtrain_operator.plan.model.shape import ModelShape
from llmtrain_operator.plan.search.auto_layout import choose
from llmtrain_operator.plan.search.candidate import FeasibleLayout, try_lay_out
from llmtrain_trainer.config import EngineName, Offload
from llmtrain_trainer.config.formats import size
from llmtrain_trainer.config.tables.engines import OFFLOADING

ENGINE, OFFLOAD, ZERO = "spec.parallelism.engine", "spec.parallelism.offload", "spec.parallelism.zeroStage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picked:
    """The manifest with the engine filled in, and one sentence that says why; None if the manifest names the engine."""

    job: LLMTrainJob
    why: str | None


def pick(job: LLMTrainJob, shape: ModelShape | None, gpu: Gpu | None) -> Picked:
    """The choice. If no engine can train the job, it is the first choice, whose refusals then apply."""
    if job.spec.parallelism.engine != "auto":
        return Picked(job=job, why=None)
    for traits in ENGINES.values():
        for name in traits.alone_reads:
            if getattr(job.spec.parallelism, name):
                return _filled(job, {ENGINE: traits.name}, f"Engine {traits.name}: no other engine reads spec.parallelism.{name}.")
    first, reason = _first(job, shape, gpu)
    passed: list[str] = []
    for changes in _in_order(job, first, gpu):
        found = attempt(edited(job, changes), shape, gpu)
        if isinstance(found, FeasibleLayout) and found.fits:
            return _filled(job, changes, _sentence(changes, reason, passed))
        passed.append(f"{_named(changes)} {_against(found)}")
    return _filled(job, {ENGINE: first}, f"Engine {first}, although no engine can train this job unchanged: {'; '.join(passed)}.")


def attempt(job: LLMTrainJob, shape: ModelShape | None, gpu: Gpu | None) -> FeasibleLayout | Problem:
    """The layout of the job with its engine; with `auto: true` the chosen one."""
    laid_out, _ = choose(job, shape, gpu) if job.spec.parallelism.auto else (job, ())
    return try_lay_out(laid_out, shape, gpu)


def _first(job: LLMTrainJob, shape: ModelShape | None, gpu: Gpu | None) -> tuple[EngineName, str]:
    """The engine to try first, and the reason as a clause."""
    wishes = ((traits.name, traits.wish(job, shape, gpu)) for traits in ENGINES.values() if traits is not FALLBACK)
    name, why = next((found for found in wishes if found[1]), (FALLBACK.name, FALLBACK.wish(job, shape, gpu)))
    assert why is not None, "the engine that is taken where no other is asked for says why"
    return name, why


def _in_order(job: LLMTrainJob, first: EngineName, gpu: Gpu | None) -> Iterator[Changes]:
    """Changes to try in order: the engines, then offload to host memory."""
    for engine in (first, *(other for other in ENGINES if other != first)):
        yield {ENGINE: engine}
    if gpu is None or job.spec.resources.memory is None:
        return  # a node's host memory is unknown, so nothing is offloaded
    stage = job.spec.parallelism.zero_stage
    for offload in (Offload(optimizer="cpu"), Offload(optimizer="cpu", parameters="cpu")):
        yield from ({ENGINE: engine, OFFLOAD: offload} | ({ZERO: 3} if stage is None else {}) for engine in OFFLOADING)


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


def _against(found: FeasibleLayout | Problem) -> str:
    """Why an engine was not chosen, as the text after its name."""
    if isinstance(found, Problem):
        return f"is refused ({found.field} is {found.value}: {found.rule.rstrip('.')})"
    assert found.memory is not None and found.memory.budget is not None  # a plan without an estimate fits
    return f"needs {size(found.memory.peak)} per rank, over the limit of {size(found.memory.budget)}"
