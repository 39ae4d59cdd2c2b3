"""The agent's Prometheus metrics: names as operators of training know them, prefix llmtrain_, one label train_job. Read over HTTP.

Rows of metrics.jsonl, heartbeats and events go in; the text format comes out. After a restart some steps are trained again: their
time counts as recompute, and no counter goes back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from llmtrain_trainer.config import CheckpointStatus, Heartbeat, Progress

_STEP_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100)
_SAVE_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900)
_GAUGES = {
    "step": "Optimizer steps done.",
    "target_steps": "Optimizer steps to do.",
    "loss": "Mean cross-entropy of the newest step, nats.",
    "validation_loss": "Mean cross-entropy of the newest evaluation, nats.",
    "learning_rate": "Learning rate of the newest step.",
    "grad_norm": "Norm of the whole gradient before clipping.",
    "tokens_per_second": "Tokens trained a second, all devices.",
    "tokens_per_second_per_gpu": "Tokens trained a second and device (GPU, or CPU rank).",
    "model_flops_utilization_ratio": "Model FLOPs a second as a share of the devices' peak.",
    "eta_seconds": "Expected time to the last step.",
    "peak_memory_bytes": "Largest peak memory of any rank.",
    "last_step_timestamp_seconds": "When the newest step ended.",
    "last_heartbeat_timestamp_seconds": "The oldest of the ranks' newest signs of life.",
    "checkpoint_last_durable_step": "Step of the newest committed checkpoint.",
    "checkpoint_last_durable_timestamp_seconds": "When the newest checkpoint was committed.",
    "checkpoint_bytes": "Size of the newest committed checkpoint.",
}
REASONS = ("crash", "killed", "hang", "peer")
STATES = ("productive", "recompute", "checkpoint_block", "init", "restart")


class Metrics:
    """One registry of its own, so that nothing of the process at large leaks in."""

    def __init__(self, train_job: str, world_size: int) -> None:
        self._registry = CollectorRegistry()
        self._world_size = world_size
        self._labels = {"train_job": train_job}
        self._gauges = {name: self._gauge(name, text) for name, text in _GAUGES.items()}
        self._tokens = self._counter("tokens_processed_total", "Tokens trained, those trained again included.")
        self._samples = self._counter("samples_processed_total", "Sequences trained, those trained again included.")
        self._nonfinite = self._counter("nonfinite_loss_total", "Steps whose loss was not a number.")
        self._restarts = self._counter("restarts_total", "Restarts of the ranks in place.", "reason")
        self._checkpoints = self._counter("checkpoints_total", "Checkpoints by result.", "result")
        self._time = self._counter("time_seconds_total", "Time by what it was used for.", "state")
        self._step_seconds = self._histogram("step_duration_seconds", "Time of an optimizer step.", _STEP_BUCKETS)
        self._blocked = self._histogram("checkpoint_blocking_seconds", "How long a checkpoint held up training.", _SAVE_BUCKETS)
        self._upload = self._histogram("checkpoint_upload_seconds", "From the ranks' last byte on disk to COMMIT.", _SAVE_BUCKETS)
        self._restore = self._histogram("checkpoint_restore_seconds", "Choosing, fetching and verifying before a start.", _SAVE_BUCKETS)
        self._newest: Progress | None = None
        self._furthest = 0
        self._start_series()

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self._registry)

    def row(self, row: Progress) -> None:
        """A new row of metrics.jsonl."""
        self._count(row)
        self._step_seconds.labels(**self._labels).observe(row.step_seconds)
        self._spend("productive" if row.step > self._furthest else "recompute", row.step_seconds)
        if row.blocked_seconds:
            self._blocked.labels(**self._labels).observe(row.blocked_seconds)
            self._spend("checkpoint_block", row.blocked_seconds)
        if not math.isfinite(row.loss):
            self._nonfinite.labels(**self._labels).inc()
        self._newest, self._furthest = row, max(self._furthest, row.step)
        self._show(row)

    def heartbeats(self, beats: Sequence[Heartbeat]) -> None:
        """The newest of each rank of this node."""
        if beats:
            self._set("last_heartbeat_timestamp_seconds", min(beat.time for beat in beats))

    def committed(self, checkpoint: CheckpointStatus, upload_seconds: float | None) -> None:
        """A checkpoint is durable; how long that took after it was on this node's disk, where that is known."""
        if upload_seconds is not None:
            self._upload.labels(**self._labels).observe(upload_seconds)
        self._checkpoints.labels(**self._labels, result="committed").inc()
        self._set("checkpoint_last_durable_step", checkpoint.step)
        self._set("checkpoint_last_durable_timestamp_seconds", checkpoint.committed_at)
        self._set("checkpoint_bytes", checkpoint.bytes)

    def restored(self, seconds: float) -> None:
        """A checkpoint was chosen, fetched and verified."""
        self._restore.labels(**self._labels).observe(seconds)

    def rejected(self) -> None:
        """A checkpoint was found torn or damaged."""
        self._checkpoints.labels(**self._labels, result="rejected").inc()

    def restart(self, reason: str) -> None:
        """The ranks are started again."""
        self._restarts.labels(**self._labels, reason=reason).inc()

    def started(self, seconds: float, *, first: bool) -> None:
        """Time from the beginning, or from a failure, to the first step that followed."""
        self._spend("init" if first else "restart", seconds)

    def _count(self, row: Progress) -> None:
        tokens, samples = row.consumed_tokens // row.step, row.consumed_samples // row.step
        steps = 1 if self._newest is None or row.step <= self._newest.step else row.step - self._newest.step
        self._tokens.labels(**self._labels).inc(tokens * steps)
        self._samples.labels(**self._labels).inc(samples * steps)

    def _show(self, row: Progress) -> None:
        values = {
            "step": row.step,
            "target_steps": row.target_steps,
            "loss": row.loss,
            "validation_loss": row.validation_loss,
            "learning_rate": row.learning_rate,
            "grad_norm": row.grad_norm,
            "tokens_per_second": row.tokens_per_second,
            "tokens_per_second_per_gpu": row.tokens_per_second / self._world_size,
            "model_flops_utilization_ratio": row.mfu,
            "eta_seconds": (row.target_steps - row.step) * row.step_seconds,
            "peak_memory_bytes": row.memory_bytes,
            "last_step_timestamp_seconds": row.time,
        }
        for name, value in values.items():
            if value is not None:
                self._set(name, value)

    def _start_series(self) -> None:
        """Counters exist from the start, at 0: an alert on an increase would miss the first one otherwise."""
        for series in (self._tokens, self._samples, self._nonfinite, self._step_seconds, self._blocked, self._upload, self._restore):
            series.labels(**self._labels)
        for counter, label, values in (
            (self._restarts, "reason", REASONS),
            (self._checkpoints, "result", ("committed", "rejected")),
            (self._time, "state", STATES),
        ):
            for value in values:
                counter.labels(**self._labels, **{label: value})

    def _spend(self, state: str, seconds: float) -> None:
        self._time.labels(**self._labels, state=state).inc(max(0.0, seconds))

    def _set(self, name: str, value: float) -> None:
        self._gauges[name].labels(**self._labels).set(value)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"llmtrain_{name}", text, ["train_job"], registry=self._registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"llmtrain_{name}", text, ["train_job", *labels], registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(f"llmtrain_{name}", text, ["train_job"], registry=self._registry, buckets=buckets)
