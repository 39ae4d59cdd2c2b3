"""The agent's Prometheus metrics, filled from rows, heartbeats and events. Names and meanings are in catalog.py. Read over HTTP."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from llmtrain_trainer.agent.telemetry.catalog import METRICS
from llmtrain_trainer.config import CheckpointStatus, GpuMemory, Heartbeat, Progress, TrainerConfig
from llmtrain_trainer.config.tables.metric import JOB, NAMESPACE, PREFIX, Metric

_ALWAYS = ("loss", "grad_norm")
"""NaN where a step had none that is finite: the value before it would look like news."""

disable_created_metrics()  # type: ignore[no-untyped-call]  # each counter and histogram would have a gauge of its birth beside it


class AgentMetrics:
    """One registry of its own, so that nothing of the process at large leaks in."""

    def __init__(self, config: TrainerConfig, node: str) -> None:
        """`node` is how the straggler series calls this one."""
        self._config, self._node = config, node
        self._registry = CollectorRegistry()
        self._job = {NAMESPACE: config.job.namespace, JOB: config.job.name}
        has = {"", config.device, "s3" if config.checkpoint and config.checkpoint.destination.startswith("s3://") else ""}
        self._metrics = {metric.name: metric for metric in METRICS if metric.needs in has}
        self._series = {name: self._collector(metric) for name, metric in self._metrics.items()}
        self._newest: Progress | None = None
        self._allocators: dict[int, tuple[int, GpuMemory]] = {}

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self._registry)

    def row(self, row: Progress) -> None:
        """A new row of metrics.jsonl."""
        tokens, samples = row.consumed_tokens // row.step, row.consumed_samples // row.step
        steps = 1 if self._newest is None or row.step <= self._newest.step else row.step - self._newest.step
        self._add("tokens_processed_total", tokens * steps)
        self._add("samples_processed_total", samples * steps)
        self._add("nonfinite_loss_total", 0 if row.loss is not None else 1)
        self._observe("step_duration_seconds", row.step_seconds)
        for phase, seconds in (row.phase_seconds or {}).items():
            self._observe("step_phase_duration_seconds", seconds, phase=phase)
        if row.blocked_seconds:
            self._observe("checkpoint_blocking_seconds", row.blocked_seconds)
        self._newest = row
        self._show(row)

    def heartbeats(self, beats: Sequence[Heartbeat]) -> None:
        """The newest of each rank of this node."""
        if not beats:
            return
        self._set("last_heartbeat_timestamp_seconds", min(beat.time for beat in beats))
        slowdowns = [beat.slowdown for beat in beats if beat.slowdown is not None]
        self._set("straggler_slowdown_ratio", max(slowdowns, default=None), node=self._node)
        for beat in beats:
            if beat.gpu_memory is not None:
                self._allocator(beat, beat.gpu_memory)
        known = [memory for _, memory in self._allocators.values()]
        self._set("gpu_memory_allocated_bytes", max((memory.allocated_bytes for memory in known), default=None))
        self._set("gpu_memory_reserved_bytes", max((memory.reserved_bytes for memory in known), default=None))

    def saved(self, seconds: float) -> None:
        """The ranks of this node have a checkpoint on its disk."""
        self._observe("checkpoint_save_seconds", seconds)

    def uploaded(self, seconds: float) -> None:
        """That checkpoint is durable; `seconds` after it was on this node's disk."""
        self._observe("checkpoint_upload_seconds", seconds)

    def committed(self, checkpoint: CheckpointStatus) -> None:
        """A checkpoint is durable; to be told by node 0."""
        self._add("checkpoints_total", result="committed")
        self._set("checkpoint_last_durable_step", checkpoint.step)
        self._set("checkpoint_last_durable_timestamp_seconds", checkpoint.committed_at)
        self._set("checkpoint_bytes", checkpoint.bytes)

    def given_up(self, result: str) -> None:
        """A save that is not committed: rejected or superseded."""
        self._add("checkpoints_total", result=result)

    def restored(self, seconds: float) -> None:
        """A checkpoint was chosen, fetched and verified."""
        self._observe("checkpoint_restore_seconds", seconds)

    def event(self, row: Mapping[str, Any]) -> None:
        """A row of events.jsonl of this node."""
        if row.get("kind") == "checkpoint_rejected" and row.get("committed", True):
            self._add("checkpoint_verify_failures_total")

    def restart(self, reason: str) -> None:
        """The ranks are started again."""
        self._add("restarts_total", reason=reason)

    def lost(self, steps: int) -> None:
        """So many steps are trained a second time."""
        self._add("lost_steps_total", steps)

    def spent(self, state: str, seconds: float) -> None:
        """Time by what it was used for."""
        self._add("time_seconds_total", seconds, state=state)

    def answered(self, op: str, code: str) -> None:
        """One try of a request to the object store ended. Any thread."""
        self._add("object_store_requests_total", op=op, code=code)

    def tried_again(self) -> None:
        """A request to the object store is repeated. Any thread."""
        self._add("object_store_retries_total")

    def _show(self, row: Progress) -> None:
        world, per_token = self._config.mesh.world_size, self._config.estimate.flops_per_token
        values = {
            "step": row.step,
            "target_steps": row.target_steps,
            "epoch_ratio": row.epoch,
            "loss": row.loss,
            "validation_loss": row.validation_loss,
            "learning_rate": row.learning_rate,
            "grad_norm": row.grad_norm,
            "tokens_per_second": row.tokens_per_second,
            "tokens_per_second_per_gpu": row.tokens_per_second / world,
            "flops_per_second_per_gpu": row.tokens_per_second / world * per_token if per_token else None,
            "model_flops_utilization_ratio": row.mfu,
            "eta_seconds": (row.target_steps - row.step) * row.step_seconds,
            "last_step_timestamp_seconds": row.time,
        }
        for name, value in values.items():
            self._set(name, math.nan if value is None and name in _ALWAYS else value)
        for split, measured in (("train", row.metrics), ("validation", row.validation_metrics)):
            for metric, value in measured.items():
                self._set("task_metric", value, metric=metric, split=split)
        if row.rank_seconds is not None:
            for stat, seconds in row.rank_seconds.model_dump().items():
                self._set("rank_step_duration_seconds", seconds, stat=stat)

    def _allocator(self, beat: Heartbeat, now: GpuMemory) -> None:
        """An allocator's counters restart with its process; ours keep their sums."""
        pid, before = self._allocators.get(beat.rank, (0, now))
        fresh = pid != beat.pid
        self._add("gpu_alloc_retries_total", now.alloc_retries - (0 if fresh else before.alloc_retries))
        self._add("gpu_oom_total", now.ooms - (0 if fresh else before.ooms))
        self._allocators[beat.rank] = (beat.pid, now)

    def _add(self, name: str, amount: float = 1, **labels: str) -> None:
        self._one(name, labels).inc(max(0.0, amount))

    def _observe(self, name: str, seconds: float, **labels: str) -> None:
        self._one(name, labels).observe(seconds)

    def _set(self, name: str, value: float | None, **labels: str) -> None:
        if value is not None:
            self._one(name, labels).set(value)

    def _one(self, name: str, labels: Mapping[str, str]) -> Any:
        """A series; a label with one value needs not be given."""
        fixed = {label: values[0] for label, values in self._metrics[name].labels.items() if len(values) == 1}
        return self._series[name].labels(**self._job, **fixed, **labels)

    def _collector(self, metric: Metric) -> Counter | Gauge | Histogram:
        """Counters and histograms exist from the start, at 0: an alert on an increase would miss the first one otherwise."""
        name, labels = PREFIX + metric.name, [*self._job, *metric.labels]
        made: Counter | Gauge | Histogram
        if metric.kind == "gauge":
            return Gauge(name, metric.text, labels, registry=self._registry)
        if metric.kind == "counter":
            made = Counter(name, metric.text, labels, registry=self._registry)
        else:
            made = Histogram(name, metric.text, labels, registry=self._registry, buckets=metric.buckets)
        for values in product(*metric.labels.values()):  # none where a label's values come with what happens
            made.labels(*self._job.values(), *values)
        return made
