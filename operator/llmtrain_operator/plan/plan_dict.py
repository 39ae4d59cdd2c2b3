"""A plan as plain values with stable keys, for `llmtrain plan -o json`."""

from __future__ import annotations

from typing import Any

from llmtrain_operator.plan.layout.layout import crossing, rank_grid
from llmtrain_operator.plan.plan import Plan


def plan_dict(plan: Plan) -> dict[str, Any]:
    """The sections of a plan. Bytes and FLOPs are whole numbers; unknown values are None."""
    spec = plan.job.spec
    return {
        "job": plan.job.metadata.name,
        "task": spec.task,
        "engine": plan.engine,
        "fits": plan.fits,
        "devices": {
            "nodes": plan.mesh.nodes,
            "procsPerNode": plan.mesh.procs_per_node,
            "total": plan.mesh.world_size,
            "gpu": plan.gpu.name if plan.gpu else None,
        },
        "model": _model(plan),
        "layout": _layout(plan),
        "batch": {
            "globalSize": plan.batch.global_size,
            "microSize": plan.batch.micro_size,
            "dataParallel": plan.mesh.dp,
            "accumulation": plan.batch.accumulation,
            "sequenceLength": spec.training.sequence_length,
            "tokensPerStep": plan.batch.global_size * spec.training.sequence_length,
            "recomputation": spec.training.activation_checkpointing,
        },
        "memory": _memory(plan),
        "throughput": _throughput(plan),
        "advice": list(plan.advice),
        "why": list(plan.why),
        "alternatives": [
            {
                "changes": dict(other.changes),
                "peakBytes": other.peak_bytes,
                "budgetBytes": other.budget_bytes,
                "tokensPerSecond": _whole(other.tokens_per_second),
            }
            for other in plan.alternatives
        ],
    }


def _model(plan: Plan) -> dict[str, Any] | None:
    shape = plan.shape
    if shape is None:
        return {"type": plan.uncounted, "layers": None, "parameters": None, "trainableParameters": None} if plan.uncounted else None
    return {"type": shape.model_type, "layers": shape.layers, "parameters": shape.parameters, "trainableParameters": plan.trainable}


def _layout(plan: Plan) -> dict[str, Any]:
    mesh = plan.mesh
    return {
        "pipeline": mesh.pp,
        "data": mesh.dp,
        "context": mesh.cp,
        "tensor": mesh.tp,
        "expert": mesh.ep,
        "zeroStage": mesh.zero_stage,
        "schedule": mesh.schedule if mesh.pp > 1 else None,
        "stages": [list(stage) for stage in mesh.stages] if plan.shape else None,
        "crossing": {axis: {"across": across, "groups": groups} for axis, (across, groups) in crossing(mesh).items()},
        "nodes": [[[at.pp, at.dp, at.cp, at.tp] for at in node] for node in rank_grid(mesh)],
    }


def _memory(plan: Plan) -> dict[str, Any] | None:
    memory = plan.memory
    if memory is None:
        return None
    return {
        "peakBytes": memory.peak,
        "budgetBytes": memory.budget,
        "capacityBytes": memory.capacity,
        "pipelineRank": memory.pipeline_rank,
        "terms": [{"name": term.name, "bytes": term.bytes, "how": term.how} for term in memory.terms],
    }


def _throughput(plan: Plan) -> dict[str, Any] | None:
    expected = plan.throughput
    if expected is None:
        return None
    return {
        "tokensPerSecond": _whole(expected.tokens_per_second),
        "mfu": round(expected.mfu, 4) if expected.mfu is not None else None,
        "bubble": round(expected.bubble, 4),
        "seconds": _whole(expected.seconds),
        "flopsPerToken": _whole(expected.flops_per_token),
        "peakFlopsPerDevice": _whole(expected.peak_flops_per_device),
        "assumption": expected.assumption,
    }


def _whole(number: float | None) -> int | None:
    return None if number is None else round(number)
