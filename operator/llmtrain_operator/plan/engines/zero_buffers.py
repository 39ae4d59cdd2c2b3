"""Buffers of ZeRO in addition to weights, gradients and optimizer state, as in DeepSpeed 0.19 (stage_1_and_2.py, stage3.py)."""

from __future__ import annotations

from collections.abc import Iterator

from llmtrain_operator.plan.memory.workload import Term, Workload
from llmtrain_operator.plan.model.weights import RankParameters

BUCKET = 500_000_000
"""Values of the buffer in which DeepSpeed collects gradients: the default of reduce_bucket_size."""

PREFETCH = 50_000_000
"""Parameters that ZeRO-3 prefetches at once: the default of stage3_prefetch_bucket_size."""

LIVE = 1_000_000_000
"""All-gathered parameters that ZeRO-3 keeps until they are used again: the default of stage3_max_live_parameters."""


def stage_3(workload: Workload, mine: RankParameters) -> Iterator[Term]:
    """Unsharded weights: those in use, and the flat all-gather buffers from which they are copied."""
    element, keys = workload.element, workload.sharing
    live = min(mine.total, max(2 * mine.largest_layer, keys.get("stage3_max_live_parameters", LIVE)))
    ahead = min(mine.total, 2 * keys.get("stage3_prefetch_bucket_size", PREFETCH))
    how = f"{element} bytes x {live:.3g} live parameters, and {ahead:.3g} in two all-gather buffers: ZeRO-3"
    yield Term(name="gathered layers", bytes=int(element * (live + ahead)), how=how)
    if workload.offload.optimizer == "cpu" and not workload.on_gpu:
        size = int(4 * mine.trained / workload.replicas)
        yield Term(name="offloaded gradients", bytes=size, how="4 bytes per sharded trained parameter, in addition to the accumulated ones")


def bucket(workload: Workload, mine: RankParameters) -> Term:
    """The buffer in which gradients are collected for a reduction. Stage 1 accumulates in fp32; stages 1 and 2 have a second buffer if
    communication overlaps, a pipeline has one more. On a CPU rank only touched pages count."""
    stage, keys = workload.mesh.zero_stage, workload.sharing
    width, buckets = 4 if stage == 1 else workload.element, 1 + (stage < 3 and bool(keys.get("overlap_comm"))) + (workload.mesh.pp > 1)
    values = keys.get("reduce_bucket_size", BUCKET)
    size = int(width * (buckets * values if workload.on_gpu else min(values, mine.all_trained)))
    how = f"{width} bytes x DeepSpeed's reduce_bucket_size" + (f", {buckets} times" if buckets > 1 else "")
    return Term(name="reduction bucket", bytes=size, how=how)


def step_copy(workload: Workload, mine: RankParameters) -> Term:
    """The flat copy that stages 1 and 2 make of their shard of the gradients for the optimizer before they free the shard."""
    size = 0 if workload.away.optimizer != "none" else int(4 * mine.trained / workload.replicas)
    return Term(name="flat gradients", bytes=size, how="4 bytes per sharded trained parameter, a copy for the optimizer's step")
