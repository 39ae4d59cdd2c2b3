"""Manifest + model shape -> Plan: layout, batch, memory, speed, advice; or PlanError."""

from __future__ import annotations

from dataclasses import dataclass

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.manifest.problem import PlanError, Problem
from llmtrain_operator.plan.advice import advice_on
from llmtrain_operator.plan.checks.layout_checks import problems_of
from llmtrain_operator.plan.checks.pods import problems_of_pods
from llmtrain_operator.plan.layout.degrees import degrees_of
from llmtrain_operator.plan.layout.hardware import Gpu, find_gpu
from llmtrain_operator.plan.layout.request import LayoutRequest
from llmtrain_operator.plan.layout.throughput import Throughput, trainable_parameters
from llmtrain_operator.plan.memory.estimate import Memory
from llmtrain_operator.plan.model.labels import with_labels
from llmtrain_operator.plan.model.shape import ModelShape
from llmtrain_operator.plan.search.alternatives import Alternative, alternatives
from llmtrain_operator.plan.search.auto_engine import pick
from llmtrain_operator.plan.search.auto_layout import choose
from llmtrain_operator.plan.search.candidate import FeasibleLayout, lay_out
from llmtrain_trainer.config import Batch, EngineName, Mesh
from llmtrain_trainer.config.formats import size

MOST_BYTES = 2**55
"""Largest estimate of a rank's memory; larger numbers are meaningless and exceed the range of JSON and Kubernetes."""

UNCOUNTED = (
    "The sizes of model_type {kind} are known to transformers alone: memory and speed are not estimated. "
    "Measure both in a run of a few steps before a long one."
)
"""Advice on a model of OTHER_FAMILIES."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What will run, and its estimated memory and speed."""

    job: LLMTrainJob
    """The manifest, with the choices of auto filled in."""

    engine: EngineName
    shape: ModelShape | None
    """None if config.json cannot be read here; memory and throughput are then None too."""

    gpu: Gpu | None
    """None on CPU processes."""

    mesh: Mesh
    batch: Batch
    memory: Memory | None
    throughput: Throughput | None
    advice: tuple[str, ...]
    why: tuple[str, ...]
    """Reasons for the choices of auto; empty without auto."""

    engine_reason: str | None
    """Why auto chose this engine; None if the manifest names it."""

    alternatives: tuple[Alternative, ...]
    """Changes that would fit; empty if the plan fits."""

    uncounted: str | None = None
    """model_type of a model whose sizes only transformers knows; shape is None then."""

    @property
    def fits(self) -> bool:
        """Whether the rank that needs most stays below 80 % of its memory; True if unknown."""
        return self.memory is None or self.memory.fits

    @property
    def recompute(self) -> bool:
        return self.job.spec.training.activation_checkpointing == "full"

    @property
    def trainable(self) -> int | None:
        """Number of trained parameters; None without a shape."""
        return trainable_parameters(self.shape, self.job.spec.peft) if self.shape else None


def plan(job: LLMTrainJob, shape: ModelShape | None) -> Plan:
    """The plan. `shape` is None if the model's config.json cannot be read. Raises PlanError with every problem at once."""
    gpu, shape = gpu_of(job), with_labels(shape, job.spec)
    if isinstance(gpu, Problem):
        request = LayoutRequest(job=job, shape=shape, gpu=None, degrees=degrees_of(job))
        raise PlanError([gpu, *problems_of(request), *problems_of_pods(job)])
    picked = pick(job, shape, gpu)
    chosen, why = choose(picked.job, shape, gpu) if job.spec.parallelism.auto else (picked.job, ())
    layout = lay_out(chosen, shape, gpu)
    if layout.memory is not None and layout.memory.peak > MOST_BYTES:
        raise PlanError([_beyond(layout)])
    uncounted = shape.model_type if shape and not shape.counted else None
    return Plan(
        job=chosen,
        engine=layout.engine,
        shape=layout.shape,
        gpu=gpu,
        mesh=layout.mesh,
        batch=layout.batch,
        memory=layout.memory,
        throughput=layout.throughput,
        advice=(*([UNCOUNTED.format(kind=uncounted)] if uncounted else []), *advice_on(layout)),
        why=(*([picked.why] if picked.why else []), *why),
        engine_reason=picked.why,
        alternatives=() if layout.fits else alternatives(layout),
        uncounted=uncounted,
    )


def _beyond(layout: FeasibleLayout) -> Problem:
    training = layout.job.spec.training
    value = f"{layout.batch.micro_size} sequences of {training.sequence_length} tokens per micro-batch"
    rule = f"a rank would need {size(layout.memory.peak)}" if layout.memory else ""
    return Problem("spec.training", value, rule, "Use a smaller microBatchSize, a smaller sequenceLength or a smaller model")


def gpu_of(job: LLMTrainJob) -> Gpu | Problem | None:
    """The GPU product, a Problem if it is unknown, or None without GPUs."""
    resources = job.spec.resources
    return find_gpu(resources.gpu or "missing") if resources.gpus_per_node else None
