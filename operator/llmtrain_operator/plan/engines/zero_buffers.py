"""Buffers of ZeRO beside weights, gradients and optimizer, after DeepSpeed 0.19 (stage_1_and_2.py, stage3.py)."""

from __future__ import annotations

from collections.abc import Iterator

from llmtrain_operator.plan.memory.workload import Run, Term
from llmtrain_operator.plan.model.weights import Held

BUCKET = 500_000_000
"""Values of the buffer in which DeepSpeed collects gradients: its default for reduce_bucket_size."""

PREFETCH = 50_000_000
"""Weights that ZeRO-3 gathers ahead at once: its default for stage3_prefetch_bucket_size."""

LIVE = 1_000_000_000
"""Gathered weights that ZeRO-3 lets stand until they are used again: its default for stage3_max_live_parameters."""


def stage_3(run: Run, mine: Held) -> Iterator[Term]:
    """Weights that are whole for a while: those in use, and the flat buffers of the gathers that they are copied out of."""
    element, keys = run.element, run.sharing
    live = min(mine.total, max(2 * mine.largest_layer, keys.get("stage3_max_live_parameters", LIVE)))
    ahead = min(mine.total, 2 * keys.get("stage3_prefetch_bucket_size", PREFETCH))
    how = f"{element} bytes x {live:.3g} live weights, and {ahead:.3g} in two gathers they are copied from: ZeRO-3"
    yield Term(name="gathered layers", bytes=int(element * (live + ahead)), how=how)
    if run.offload.optimizer == "cpu" and not run.on_gpu:
        size = int(4 * mine.trained / run.replicas)
        yield Term(name="offloaded gradients", bytes=size, how="4 bytes a trained weight shared out, beside those that are added up")


def bucket(run: Run, mine: Held) -> Term:
    """Where gradients are collected for a reduction. Stage 1 adds up in fp32; stages 1 and 2 have a second one where communication
    overlaps, a pipeline has one more. Of a CPU rank that which is written to."""
    stage, keys = run.mesh.zero_stage, run.sharing
    width, buckets = 4 if stage == 1 else run.element, 1 + (stage < 3 and bool(keys.get("overlap_comm"))) + (run.mesh.pp > 1)
    values = keys.get("reduce_bucket_size", BUCKET)
    size = int(width * (buckets * values if run.on_gpu else min(values, mine.all_trained)))
    how = f"{width} bytes x DeepSpeed's reduce_bucket_size" + (f", {buckets} times" if buckets > 1 else "")
    return Term(name="reduction bucket", bytes=size, how=how)


def step_copy(run: Run, mine: Held) -> Term:
    """Stages 1 and 2 flatten their share of the gradients for the optimizer before they let go of it."""
    size = 0 if run.away.optimizer != "none" else int(4 * mine.trained / run.replicas)
    return Term(name="flat gradients", bytes=size, how="4 bytes a trained weight shared out, a copy for the optimizer's step")
