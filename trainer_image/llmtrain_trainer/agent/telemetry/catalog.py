"""Every metric of the agent, defined once: name, kind, labels, meaning. metrics.py fills them, docs/operations/metrics.md lists them.

Names are those that training is watched by elsewhere, in base units, prefix llmtrain_. No label of a rank: what ranks do not share is
told as a spread. `python -m llmtrain_trainer.agent.telemetry.catalog` prints the page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

from llmtrain_trainer.config.tables.failures import RESTARTED
from llmtrain_trainer.config.tables.time_accounts import OF_AN_AGENT

Kind = Literal["gauge", "counter", "histogram"]

PREFIX = "llmtrain_"
JOB = "train_job"
"""The one label of every series. `job`, `instance`, `namespace` and `pod` belong to whoever scrapes."""

PHASES = ("data", "forward", "backward", "optimizer", "comm", "other")
_STEP = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0)
_PHASE = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 50.0)
_SAVE = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One name and all its series."""

    name: str
    """Without the prefix."""

    kind: Kind
    group: str
    text: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Label -> its values; none given: they come with what happens."""

    buckets: tuple[float, ...] = ()
    needs: Literal["", "cuda", "s3"] = ""
    """Absent where the device is not a GPU, or the checkpoints' destination no bucket."""


def _of(group: str, kind: Kind, needs: Literal["", "cuda", "s3"] = "", **texts: str) -> Iterator[Metric]:
    for name, text in texts.items():
        yield Metric(name=name, kind=kind, group=group, text=text, needs=needs)


def _timed(name: str, text: str, tier: str) -> Metric:
    return Metric(name=name, kind="histogram", group="checkpoints", text=text, labels={"tier": (tier,)}, buckets=_SAVE)


METRICS: tuple[Metric, ...] = (
    *_of(
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
    *_of(
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
    *_of(
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
    *_of(
        "memory",
        "gauge",
        "cuda",
        gpu_memory_allocated_bytes="Peak of allocated memory on the fullest GPU of this node.",
        gpu_memory_reserved_bytes="Peak of memory reserved by the allocator on the fullest GPU of this node.",
    ),
    *_of(
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
    *_of(
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
    *_of("checkpoints", "counter", checkpoint_verify_failures_total="Committed checkpoints that were found incomplete or damaged."),
    Metric(
        name="object_store_requests_total",
        kind="counter",
        group="checkpoints",
        text="Requests to the bucket, including retries, by operation and HTTP status; code error: there was no response.",
        labels={"op": (), "code": ()},
        needs="s3",
    ),
    *_of("checkpoints", "counter", "s3", object_store_retries_total="Requests to the bucket that were retried."),
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
    *_of("goodput", "counter", lost_steps_total="Completed steps that had to be trained again after a restart in place."),
)


def page() -> str:
    """docs/operations/metrics.md."""
    parts = [_HEAD]
    for group, metrics in groupby(METRICS, key=lambda metric: metric.group):
        rows = "\n".join(_row(metric) for metric in metrics)
        parts.append(f"## {group.capitalize()}\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n{rows}\n")
    return "\n".join([*parts, _TAIL])


def _row(metric: Metric) -> str:
    labels = "<br>".join(f"{label}: {', '.join(values) or 'as they come'}" for label, values in metric.labels.items())
    only = {"": "", "cuda": " Only on GPUs.", "s3": " Only where checkpoints go to s3://."}[metric.needs]
    return f"| `{PREFIX}{metric.name}` | {metric.kind} | {labels} | {metric.text}{only} |"


_HEAD = """# Metrics of a training node

Every agent answers `GET /metrics` on its port (port.json in the run directory names it). Every series has the label `train_job`;
scrapers add their own. What concerns the whole run (progress, speed, goodput, restarts, the newest checkpoint) is told by node 0 alone;
memory, heartbeats, stragglers, saving, restoring and requests to the store by each node for itself. Counters and histograms are there
from the start, at 0, where their labels are known; a gauge appears with its first value.

This page is generated: `make generate`.
"""

_TAIL = """## Reading them

- Goodput is the productive share: `sum by (train_job) (rate(llmtrain_time_seconds_total{state="productive"}[1h]))` over
  `sum by (train_job) (rate(llmtrain_time_seconds_total[1h]))`.
- `restart` begins with the last row before a failure and ends where the first step after it begins, without what `restore` and `hung`
  took. Evaluation counts as productive. Time in a queue or suspended is not known to an agent: the operator counts it.
- The operator books a whole job in the same states (`.status.goodput.byCause`), from the rows it sees: `data_wait` is within
  `productive` there, and `restore` within `starting` and `restart`.
- On a GPU the phases are timed by events in its stream. What a step does not wait for (`optimizer`, and the end of `comm`) shows with
  the next step: nothing waits for the device because of a metric.
- `rank_step_duration_seconds` leaves out what a rank waited for other pipeline stages and at the end of the step. Collectives inside a
  layer (tensor parallelism, FSDP's gathers) cannot be told from computing: ranks that meet there look alike, and a slow one shows as
  their stage or replica. Stages of unequal work differ by nature: alert on a change. An engine that does not tell its phases has no
  such series.
"""

if __name__ == "__main__":
    print(page(), end="")
