"""A manifest with one choice of degrees: checked, laid out, estimated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.manifest.problem import PlanError, Problem
from llmtrain_operator.manifest.quantity import quantity
from llmtrain_operator.plan.checks.layout_checks import problems_of
from llmtrain_operator.plan.checks.pods import problems_of_pods
from llmtrain_operator.plan.engines.registry import ENGINES
from llmtrain_operator.plan.layout.degrees import Degrees, degrees_of
from llmtrain_operator.plan.layout.hardware import Gpu
from llmtrain_operator.plan.layout.layout import split_layers
from llmtrain_operator.plan.layout.request import LayoutRequest
from llmtrain_operator.plan.layout.throughput import Throughput, expect
from llmtrain_operator.plan.memory.estimate import Memory, estimate_memory
from llmtrain_operator.plan.memory.workload import Workload
from llmtrain_operator.plan.model.shape import ModelShape
from llmtrain_trainer.config import Batch, EngineName, Mesh, Offload
from llmtrain_trainer.config.tables.families import family_named
from llmtrain_trainer.config.tables.tasks import is_packed


@dataclass(frozen=True, slots=True, kw_only=True)
class FeasibleLayout:
    """A valid layout with its estimates."""

    job: LLMTrainJob
    shape: ModelShape | None
    gpu: Gpu | None
    engine: EngineName
    mesh: Mesh
    batch: Batch
    memory: Memory | None
    """None if the shape is unknown."""

    throughput: Throughput | None

    @property
    def fits(self) -> bool:
        """Whether memory fits; True if it cannot be estimated."""
        return self.memory is None or self.memory.fits


def lay_out(job: LLMTrainJob, shape: ModelShape | None, gpu: Gpu | None) -> FeasibleLayout:
    """The layout of a job whose degrees are chosen, with its estimates. Raises PlanError with every problem."""
    request = LayoutRequest(job=job, shape=shape, gpu=gpu, degrees=degrees_of(job))
    if problems := (*problems_of(request), *problems_of_pods(job)):
        raise PlanError(problems)
    assert isinstance(request.batch, Batch)
    return _estimated(request, request.batch)


def try_lay_out(job: LLMTrainJob, shape: ModelShape | None, gpu: Gpu | None) -> FeasibleLayout | Problem:
    """Like `lay_out`, for a search: returns the first problem instead of raising, and checks no pods."""
    request = LayoutRequest(job=job, shape=shape, gpu=gpu, degrees=degrees_of(job))
    if problems := problems_of(request):
        return problems[0]
    assert isinstance(request.batch, Batch)
    return _estimated(request, request.batch)


def _estimated(request: LayoutRequest, batch: Batch) -> FeasibleLayout:
    job, spec = request.job, request.job.spec
    shape = request.shape if request.shape and request.shape.counted else None
    mesh = mesh_of(request.degrees, shape)
    return FeasibleLayout(
        job=job,
        shape=shape,
        gpu=request.gpu,
        engine=request.degrees.engine,
        mesh=mesh,
        batch=batch,
        memory=estimate_memory(_workload(request, mesh, batch, shape), capacity_of(job, request.gpu)) if shape else None,
        throughput=expect(
            shape,
            mesh,
            batch,
            spec.training,
            spec.peft,
            request.gpu,
            large_model=ENGINES[request.degrees.engine].large_model,
            offload=spec.parallelism.offload,
        )
        if shape
        else None,
    )


def mesh_of(degrees: Degrees, shape: ModelShape | None) -> Mesh:
    """The mesh. Without a shape the layers are unknown: each stage is then an empty range, and preparation splits the layers."""
    stages = split_layers(shape.layers, degrees.stages) if shape else ((0, 0),) * degrees.stages
    return Mesh(
        nodes=degrees.nodes,
        procs_per_node=degrees.procs_per_node,
        pp=degrees.pp,
        dp=degrees.dp,
        cp=degrees.cp,
        tp=degrees.tp,
        ep=degrees.ep,
        zero_stage=degrees.zero,
        schedule=degrees.schedule,
        stages=stages,
    )


def _workload(request: LayoutRequest, mesh: Mesh, batch: Batch, shape: ModelShape) -> Workload:
    spec = request.job.spec
    return Workload(
        shape=shape,
        mesh=mesh,
        batch=batch,
        training=spec.training,
        engine=ENGINES[request.degrees.engine].memory,
        peft=spec.peft,
        eager=family_named(shape.model_type).kernel(spec.model.attention) == "eager",
        packed=is_packed(spec.task, spec.training.packing),
        on_gpu=request.gpu is not None,
        offload=spec.parallelism.offload or Offload(),
        sharing=_numbers((spec.parallelism.deepspeed or {}).get("zero_optimization")),
    )


def _numbers(section: Any) -> dict[str, Any]:
    """The numeric raw keys, which the estimate uses; DeepSpeed itself checks the others."""
    return {key: value for key, value in section.items() if isinstance(value, int | float)} if isinstance(section, dict) else {}


def capacity_of(job: LLMTrainJob, gpu: Gpu | None) -> int | None:
    """Bytes that one rank may use: the GPU's memory, or its share of the pod's memory; None if a CPU pod has no memory limit."""
    resources = job.spec.resources
    if gpu:
        return gpu.memory_bytes
    return max(1, int(quantity(resources.memory) / (resources.procs_per_node or 1))) if resources.memory else None
