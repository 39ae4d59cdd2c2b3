"""Every metric of the agent, defined once: name, kind, labels, meaning. metrics.py fills them, docs/operations/metrics.md lists them.

Names are those that training is watched by elsewhere. No label of a rank: what ranks do not share is told as a spread.
"""

from __future__ import annotations

from llmtrain_trainer.config.tables.failures import RESTARTED
from llmtrain_trainer.config.tables.metric import Metric, plain
from llmtrain_trainer.config.tables.time_accounts import OF_AN_AGENT

PHASES = ("data", "forward", "backward", "optimizer", "comm", "other")
_STEP = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0)
_PHASE = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 50.0)
_SAVE = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)


def _timed(name: str, text: str, tier: str) -> Metric:
    return Metric(name=name, kind="histogram", group="checkpoints", text=text, labels={"tier": (tier,)}, buckets=_SAVE)


METRICS: tuple[Metric, ...] = (
    *plain(
        "progress",
        "gauge",
        step="Optimizer steps completed.",
        target_steps="Optimizer steps of the whole run.",
        epoch_ratio="Passes over the training data so far; absent if a dataset streams.",
        loss="Mean cross-entropy of the newest step, nats.",
        validation_loss="Mean cross-entropy of the newest evaluation, nats.",
        learning_rate="Learning rate of the newest step.",
        grad_norm="Norm of the whole gradient before clipping.",
        eta_seconds="Expected time to the last step.",
        last_step_timestamp_seconds="When the newest step ended.",
        last_heartbeat_timestamp_seconds="The oldest of the newest heartbeats of this node's ranks.",
    ),
    Metric(
        name="task_metric",
        kind="gauge",
        group="progress",
        text="What the task's objective measures besides the loss: mean over the targets of the newest step, or of the newest evaluation.",
        labels={"metric": (), "split": ("train", "validation")},
    ),
    *plain(
        "progress",
        "counter",
        tokens_processed_total="Tokens trained, including those trained again.",
        samples_processed_total="Sequences trained, including those trained again.",
        nonfinite_loss_total="Steps whose loss was not finite.",
    ),
    Metric(name="step_duration_seconds", kind="histogram", group="speed", text="Time of an optimizer step.", buckets=_STEP),
    Metric(
        name="step_phase_duration_seconds",
        kind="histogram",
        group="speed",
        text="A step's time on rank 0 by phase. comm: waiting for pipeline stages and for reductions over ranks.",
        labels={"phase": PHASES},
        buckets=_PHASE,
    ),
    *plain(
        "speed",
        "gauge",
        tokens_per_second="Tokens per second, over all devices.",
        tokens_per_second_per_gpu="Tokens per second per device (GPU, or CPU rank).",
        flops_per_second_per_gpu="Model FLOPs per second per device.",
        model_flops_utilization_ratio="Model FLOPs per second as a fraction of the devices' peak.",
    ),
    Metric(
        name="rank_step_duration_seconds",
        kind="gauge",
        group="speed",
        text="Recent time of a step on a rank without the comm phase, over all ranks.",
        labels={"stat": ("min", "median", "max")},
    ),
    Metric(
        name="straggler_slowdown_ratio",
        kind="gauge",
        group="speed",
        text="That time on this node's slowest rank, divided by the median of all ranks.",
        labels={"node": ()},
    ),
    *plain(
        "memory",
        "gauge",
        "cuda",
        gpu_memory_allocated_bytes="Peak of allocated memory on the fullest GPU of this node.",
        gpu_memory_reserved_bytes="Peak of memory reserved by the allocator on the fullest GPU of this node.",
    ),
    *plain(
        "memory",
        "counter",
        "cuda",
        gpu_alloc_retries_total="Allocations that first had to release cached memory; many of them slow training down.",
        gpu_oom_total="Allocations that failed for lack of memory, including those that ended a rank.",
    ),
    _timed("checkpoint_blocking_seconds", "How long a checkpoint blocked training.", "memory"),
    _timed("checkpoint_save_seconds", "Time from the end of the blocking copy to this node's last shard on local disk.", "local"),
    _timed("checkpoint_upload_seconds", "Time from there to COMMIT.", "object"),
    _timed("checkpoint_restore_seconds", "Time to choose, fetch and verify a checkpoint before a start.", "object"),
    *plain(
        "checkpoints",
        "gauge",
        checkpoint_bytes="Size of the newest committed checkpoint.",
        checkpoint_last_durable_step="Step of the newest committed checkpoint.",
        checkpoint_last_durable_timestamp_seconds="When the newest checkpoint was committed.",
    ),
    Metric(
        name="checkpoints_total",
        kind="counter",
        group="checkpoints",
        text="Saved checkpoints by result. superseded: a newer one replaced it while the store was unreachable.",
        labels={"result": ("committed", "rejected", "superseded")},
    ),
    *plain("checkpoints", "counter", checkpoint_verify_failures_total="Committed checkpoints that were found incomplete or damaged."),
    Metric(
        name="object_store_requests_total",
        kind="counter",
        group="checkpoints",
        text="Requests to the bucket, including retries, by operation and HTTP status; code error: there was no response.",
        labels={"op": (), "code": ()},
        needs="s3",
    ),
    *plain("checkpoints", "counter", "s3", object_store_retries_total="Requests to the bucket that were retried."),
    Metric(
        name="time_seconds_total",
        kind="counter",
        group="goodput",
        text="Time from the agent's start to the newest step, each second in one state. recompute: steps trained again.",
        labels={"state": OF_AN_AGENT},
    ),
    Metric(
        name="restarts_total",
        kind="counter",
        group="goodput",
        text="Restarts of the ranks in place.",
        labels={"reason": RESTARTED},
    ),
    *plain("goodput", "counter", lost_steps_total="Completed steps that had to be trained again after a restart in place."),
)
