"""The files of a run as one frozen value."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from llmtrain_trainer.config import Progress, TrainerConfig, Verdict
from llmtrain_trainer.run_dir.layout import RunDir, read_rows
from llmtrain_trainer.run_dir.notices import told

RESTARTS = ("restart", "hang")
CHECKPOINT_FAILURES = ("checkpoint_rejected", "checkpoint_superseded", "upload_failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A row of events.jsonl, with the node that wrote it."""

    time: float
    kind: str
    message: str
    node: int
    step: int | None
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One run. Rows are in step order, each step once: where it was computed twice, the last row counts."""

    config: TrainerConfig
    rows: tuple[Progress, ...]
    events: tuple[Event, ...]
    verdict: Verdict | None
    notices: tuple[str, ...]
    """Notices of all nodes."""

    unigram_entropy: float | None
    """Nats per token of the training data: what a model that only knows the frequencies of tokens reaches."""

    @property
    def restarts(self) -> tuple[Event, ...]:
        """Every restart of ranks in place, hangs included."""
        return tuple(event for event in self.events if event.kind in RESTARTS)

    @property
    def commits(self) -> tuple[Event, ...]:
        """Every checkpoint that was committed."""
        return tuple(event for event in self.events if event.kind == "checkpoint_committed")

    @property
    def lost_steps(self) -> int:
        """Steps that were done and had to be trained again, as the agents count them: rows that were not logged included."""
        return sum(int(event.detail.get("lost_steps", 0)) for event in self.events)

    @property
    def checkpoint_failures(self) -> tuple[Event, ...]:
        """Every checkpoint that was refused, dropped, or could not be sent at once."""
        return tuple(event for event in self.events if event.kind in CHECKPOINT_FAILURES)

    @property
    def validation(self) -> tuple[tuple[int, float], ...]:
        """(step, loss) of each evaluation."""
        return tuple((row.step, row.validation_loss) for row in self.rows if row.validation_loss is not None)

    @property
    def validation_metrics(self) -> tuple[tuple[str, int, float], ...]:
        """(name, step, value) of each measure of the newest evaluation."""
        newest = next((row for row in reversed(self.rows) if row.validation_metrics), None)
        measured = newest.validation_metrics.items() if newest else ()
        return tuple((name, newest.step, value) for name, value in measured if newest and value is not None)

    @property
    def start(self) -> float:
        """Of the first event or step, in seconds since the epoch."""
        return min([event.time for event in self.events] + [row.time - row.step_seconds for row in self.rows], default=0.0)

    @property
    def seconds(self) -> float:
        """From the start to the last event or row."""
        return max([event.time for event in self.events] + [row.time for row in self.rows], default=self.start) - self.start

    def median_of(self, field: str) -> float | None:
        """Median over the rows, without the first, which pays for warming up; None where no row has the field."""
        values = [value for row in self.rows[1:] or self.rows if (value := getattr(row, field)) is not None]
        return median(values) if values else None


def gather(run: RunDir, nodes: Sequence[RunDir]) -> Facts:
    """Read one run. `run` is node 0's directory, which holds the metrics; `nodes` are all of them, for their events."""
    raw = [Progress.model_validate(row) for row in read_rows(run.metrics)]
    latest = {row.step: row for row in raw}
    return Facts(
        config=TrainerConfig.model_validate_json(run.config.read_text()),
        rows=tuple(latest[step] for step in sorted(latest)),
        events=tuple(sorted(_events(nodes or [run]), key=lambda event: event.time)),
        verdict=Verdict.model_validate_json(run.termination.read_text()) if run.termination.exists() else None,
        notices=tuple(dict.fromkeys(sentence for node in nodes or [run] for sentence in told(node))),
        unigram_entropy=_unigram_entropy(run),
    )


def _events(nodes: Sequence[RunDir]) -> Iterable[Event]:
    for index, node in enumerate(nodes):
        for row in read_rows(node.events):
            detail = {key: value for key, value in row.items() if key not in {"time", "kind", "message", "step"}}
            yield Event(
                time=float(row["time"]),
                kind=str(row["kind"]),
                message=str(row.get("message", "")),
                node=index,
                step=row.get("step"),
                detail=detail,
            )


def _unigram_entropy(run: RunDir) -> float | None:
    path = run.prepared / "prepared.json"
    if not path.exists():
        return None
    value = json.loads(path.read_text()).get("unigramEntropy")
    return float(value) if value is not None else None
