"""Refusals of layouts that engine deepspeed cannot run: the limits of DeepSpeed 0.19."""

from __future__ import annotations

from llmtrain_operator.manifest.divisors import listed
from llmtrain_operator.manifest.problem import Problem
from llmtrain_operator.plan.engines.deepspeed_keys import wrong_keys
from llmtrain_operator.plan.engines.offload import lacking, offloaded_bytes
from llmtrain_operator.plan.layout.request import LayoutRequest, Refusal
from llmtrain_trainer.config import Offload
from llmtrain_trainer.config.deepspeed import owned
from llmtrain_trainer.config.formats import size
from llmtrain_trainer.config.tables.families import TRAINED, trained_by

FAMILIES = trained_by("deepspeed")
ZERO = "spec.parallelism.zeroStage"


def family(request: LayoutRequest) -> Problem | None:
    shape = request.shape
    if shape is None or shape.model_type in FAMILIES or shape.model_type not in TRAINED:
        return None
    rule = f"its model_type is {shape.model_type}, and engine deepspeed supports {listed(FAMILIES)}"
    return Problem("spec.model", request.job.spec.model.source or shape.model_type, rule, "Use engine native")


def pipeline_zero(request: LayoutRequest) -> Problem | None:
    if request.degrees.pp == 1 or request.degrees.zero < 2:
        return None
    rule = "DeepSpeed's pipeline shards only the optimizer state: stages 2 and 3 fail with it"
    return Problem(ZERO, str(request.degrees.zero), rule, "Use 1, or leave pipeline out")


def pipeline_schedule(request: LayoutRequest) -> Problem | None:
    degrees = request.degrees
    if degrees.pp == 1 or degrees.schedule == "1f1b":
        return None
    rule = "DeepSpeed's pipeline runs 1f1b with one stage per device"
    return Problem("spec.parallelism.schedule", degrees.schedule, rule, "Leave schedule and virtualStages out, or use engine native")


def whole_bf16(request: LayoutRequest) -> Problem | None:
    if request.degrees.zero or request.job.spec.training.precision != "bf16":
        return None
    rule = "without ZeRO, DeepSpeed accumulates gradients in bf16"
    return Problem(ZERO, "0", rule, "Use 1, which costs nothing in one replica, or precision: fp32")


def context(request: LayoutRequest) -> Problem | None:
    if request.degrees.cp == 1:
        return None
    way_out = "Leave context out, or use engine native"
    return Problem("spec.parallelism.context", str(request.degrees.cp), "engine deepspeed has no context parallelism", way_out)


def expert(request: LayoutRequest) -> Problem | None:
    if request.degrees.ep == 1:
        return None
    way_out = "Leave expert out, or use engine native"
    return Problem("spec.parallelism.expert", str(request.degrees.ep), "engine deepspeed has no expert parallelism", way_out)


def tensor_of_experts(request: LayoutRequest) -> Problem | None:
    if request.degrees.tp == 1 or not request.shape or not request.shape.experts:
        return None
    rule = "engine deepspeed has no tensor parallelism for MoE models"
    return Problem("spec.parallelism.tensor", str(request.degrees.tp), rule, "Leave tensor out, or use engine native")


def offload_optimizer(request: LayoutRequest) -> Problem | None:
    """Offload of the optimizer needs ZeRO 1 or more for the CPU, ZeRO-3 for NVMe."""
    place = _offload(request).optimizer
    least = {"none": 0, "cpu": 1, "nvme": 3}[place]
    if request.degrees.zero >= least:
        return None
    rule = f"offload to {place} needs zeroStage {least} or more, and this is {request.degrees.zero}"
    return Problem("spec.parallelism.offload.optimizer", place, rule, f"Write zeroStage: {least}, or none")


def offload_parameters(request: LayoutRequest) -> Problem | None:
    place = _offload(request).parameters
    if place == "none" or request.degrees.zero == 3:
        return None
    rule = f"only zeroStage 3 fetches weights layer by layer, and this is {request.degrees.zero}"
    return Problem("spec.parallelism.offload.parameters", place, rule, "Write zeroStage: 3, or none")


def host_memory(request: LayoutRequest) -> Problem | None:
    if not lacking(request) or request.shape is None:
        return None
    needed = offloaded_bytes(request.job, request.shape)
    rule = f"offload keeps {size(needed)} in the host memory of each node"
    return Problem("spec.resources.memory", str(request.job.spec.resources.memory), rule, "Request more memory, or use more nodes")


def compiled(request: LayoutRequest) -> Problem | None:
    if not request.job.spec.training.compile:
        return None
    rule = "in this version only engine native compiles layers"
    return Problem("spec.training.compile", "true", rule, "Leave compile out, or use engine native")


def raw_keys(request: LayoutRequest) -> Problem | None:
    found = next(owned(request.job.spec.parallelism.deepspeed or {}), None)
    if found is None:
        return None
    key, field = found
    return Problem("spec.parallelism.deepspeed", key, f"spec.{field} sets this value", f"Set spec.{field} and leave {key} out")


def unread_keys(request: LayoutRequest) -> Problem | None:
    return next(wrong_keys(request.job.spec.parallelism.deepspeed or {}), None)


LIMITS: tuple[Refusal, ...] = (
    family,
    pipeline_zero,
    pipeline_schedule,
    whole_bf16,
    context,
    expert,
    tensor_of_experts,
    offload_optimizer,
    offload_parameters,
    host_memory,
    compiled,
    raw_keys,
    unread_keys,
)


def _offload(request: LayoutRequest) -> Offload:
    return request.job.spec.parallelism.offload or Offload()
