"""The metrics of every job, from the status that the operator wrote last: a job whose agents are dead, or that has none yet, shows here.

Only the leader has them. A job that has been over for an hour is counted in `jobs` and has no other series: there may be thousands.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from llmtrain_operator.api.job import Status
from llmtrain_operator.kube.metrics.catalog import FLEET, JOBS, PHASES, PODS
from llmtrain_operator.life.times import seconds_of
from llmtrain_trainer.config.tables.metric import JOB, NAMESPACE, PREFIX, Metric
from llmtrain_trainer.config.tables.time_accounts import BOOKED_BY_THE_OPERATOR

KEPT = 3600.0
"""Seconds for which a job that is over keeps its series."""

LONGEST_LABEL = 128

Sample = tuple[str, tuple[str, ...], float]
"""Name without prefix, values of the labels, value."""

_PHASES = next(metric for metric in FLEET if metric.name == "jobs")


class Waits(Protocol):
    """The histogram of waits in the queue."""

    def observe(self, amount: float) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What is kept of a status: its numbers alone, half of its memory."""

    phase: str
    began: bool
    ended: float | None
    samples: tuple[Sample, ...]


class JobMetrics(Collector):
    """What is known of each job, told at each scrape. `wall`: seconds since the epoch."""

    def __init__(self, waits: Waits, wall: Callable[[], float] = time.time) -> None:
        self._waits, self._wall = waits, wall
        self._known: dict[tuple[str, str], _Known] = {}

    def note(self, key: tuple[str, str], created: float | None, before: Status, now: Status) -> None:
        """The status of a job after a reconcile; `before` is the one that was written last."""
        began = seconds_of(now.start_time)
        if before.start_time is None and began is not None and created is not None:
            known = self._known.get(key)
            if known is None or not known.began:  # a status may be projected several times before it is written
                self._waits.observe(max(0.0, began - created))
        self._known[key] = _Known(
            phase=now.phase or "Pending",
            began=now.start_time is not None,
            ended=seconds_of(now.completion_time),
            samples=tuple(samples(created, now)),
        )

    def forget(self, key: tuple[str, str]) -> None:
        """The job is gone."""
        self._known.pop(key, None)

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """The families of one scrape."""
        known = dict(self._known)  # the pages are served by another thread
        counts: dict[str, int] = dict.fromkeys(PHASES, 0)
        for one in known.values():
            counts[one.phase] += 1
        phases = _family(_PHASES, ())
        for phase, count in counts.items():
            phases.add_metric([phase], count)
        yield phases
        families = {metric.name: _family(metric, (NAMESPACE, JOB)) for metric in JOBS}
        for key, one in sorted(known.items()):
            if one.ended is None or self._wall() - one.ended < KEPT:
                for name, labels, value in one.samples:
                    families[name].add_metric([*key, *labels], value)
        yield from families.values()


def samples(created: float | None, status: Status) -> Iterator[Sample]:
    """Every series of one job."""
    yield "job_phase", (status.phase or "Pending",), 1.0
    yield "job_notices", (), float(len(status.notices))
    if status.plan is not None:
        plan = status.plan
        yield "job_info", tuple(_short(text) for text in (plan.engine, plan.layout, plan.model)), 1.0
    if status.failure is not None:
        yield "job_failure_info", (_short(status.failure.reason),), 1.0
    if status.pods is not None:
        yield from (("job_pods", (state,), float(getattr(status.pods, state))) for state in PODS)
    if status.restarts is not None:
        yield from (("job_restarts_total", (_short(reason),), float(count)) for reason, count in _restarts(status))
    yield from _time(status)
    yield from ((name, (), float(value)) for name, value in _numbers(created, status).items() if value is not None)


def _restarts(status: Status) -> Iterator[tuple[str, int]]:
    """By reason; InPlace is there from the start."""
    assert status.restarts is not None
    yield from ({"InPlace": 0} | dict(status.restarts.by_reason)).items()


def _time(status: Status) -> Iterator[Sample]:
    """Seconds by state, every state from the start."""
    goodput = status.goodput
    if goodput is None:
        return
    spent: Mapping[str, float] = {**goodput.by_cause, "suspended": goodput.suspended_seconds}
    yield from (("job_time_seconds_total", (state,), spent.get(state, 0.0)) for state in BOOKED_BY_THE_OPERATOR)
    if status.plan is not None and status.plan.gpus:
        held = goodput.gpu_hours_by_cause
        yield from (("job_gpu_seconds_total", (state,), 3600.0 * held.get(state, 0.0)) for state in BOOKED_BY_THE_OPERATOR)


def _numbers(created: float | None, status: Status) -> Mapping[str, float | None]:
    progress, checkpoint = status.progress, status.checkpoint
    return {
        "job_created_timestamp_seconds": created,
        "job_attempt": status.attempt,
        "job_gpus": status.plan.gpus if status.plan else None,
        "job_goodput_ratio": status.goodput.ratio if status.goodput else None,
        "job_step": progress.step if progress else None,
        "job_target_steps": progress.target_steps if progress else None,
        "job_loss": progress.loss if progress else None,
        "job_tokens_per_second": progress.tokens_per_second if progress else None,
        "job_last_step_timestamp_seconds": seconds_of(progress.last_step_time) if progress else None,
        "job_checkpoint_last_durable_step": checkpoint.step if checkpoint else None,
        "job_checkpoint_last_durable_timestamp_seconds": seconds_of(checkpoint.time) if checkpoint else None,
    }


def _family(metric: Metric, job: tuple[str, ...]) -> GaugeMetricFamily | CounterMetricFamily:
    kind = GaugeMetricFamily if metric.kind == "gauge" else CounterMetricFamily
    return kind(PREFIX + metric.name, metric.text, labels=[*job, *metric.labels])


def _short(text: str | None) -> str:
    return (text or "")[:LONGEST_LABEL]
