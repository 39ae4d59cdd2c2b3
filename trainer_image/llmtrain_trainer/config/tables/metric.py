"""What a metric is: the type of both tables of metrics, the agent's and the operator's, and how a page shows them.

Names have the prefix llmtrain_ and base units. No label of a rank, and none that belongs to whoever scrapes (`job`, `instance`,
`namespace`, `pod`): a series of a job has `train_namespace` and `train_job`, the same in both tables, so that they can be joined.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

MetricKind = Literal["gauge", "counter", "histogram"]
Needs = Literal["", "cuda", "s3"]

PREFIX = "llmtrain_"
NAMESPACE, JOB = "train_namespace", "train_job"
"""Labels that name a job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One name and all its series."""

    name: str
    """Without the prefix."""

    kind: MetricKind
    group: str
    text: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Label -> its values, without those that name a job; none given: they come with what happens."""

    buckets: tuple[float, ...] = ()
    needs: Needs = ""
    """Absent where the device is not a GPU, or the checkpoints' destination no bucket."""


def plain(group: str, kind: MetricKind, needs: Needs = "", **texts: str) -> Iterator[Metric]:
    """Metrics of one group without labels: name -> meaning."""
    for name, text in texts.items():
        yield Metric(name=name, kind=kind, group=group, text=text, needs=needs)


def tables(metrics: Iterable[Metric]) -> str:
    """A section per group, in Markdown."""
    parts = []
    for group, members in groupby(metrics, key=lambda metric: metric.group):
        rows = "\n".join(_row(metric) for metric in members)
        parts.append(f"### {group.capitalize()}\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n{rows}\n")
    return "\n".join(parts)


def _row(metric: Metric) -> str:
    labels = "<br>".join(f"{label}: {', '.join(values) or 'as they come'}" for label, values in metric.labels.items())
    only = {"": "", "cuda": " Only on GPUs.", "s3": " Only where checkpoints go to s3://."}[metric.needs]
    return f"| `{PREFIX}{metric.name}` | {metric.kind} | {labels} | {metric.text}{only} |"
