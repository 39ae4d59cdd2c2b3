"""Snapshots of a local run.

A job on a cluster is drawn from the same Snapshot, which `llmtrain watch` builds from other sources.
"""

from __future__ import annotations

import math
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from llmtrain_operator.local.agents import AgentProcess
from llmtrain_operator.local.workdir import Tail, Workdir
from llmtrain_trainer.config import CheckpointStatus, ExitCode, NodeStatus, Progress
from llmtrain_trainer.config.listen import joined, loopback

RECENT = 20
"""Number of newest steps from which speed and remaining time are computed."""


@dataclass(frozen=True, slots=True)
class Happening:
    """A row of an events.jsonl."""

    node: int
    kind: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The data that a view shows."""

    time: float
    nodes: tuple[NodeStatus | None, ...]
    """The newest answer of each agent; None for one that has not answered yet."""

    rows: tuple[Progress, ...] = ()
    """In step order, each step once."""

    checkpoint: CheckpointStatus | None = None
    """The newest committed checkpoint."""

    news: tuple[Happening, ...] = ()
    """Events since the last snapshot."""

    state: str = ""
    """State of the whole job; only on a cluster."""

    all_restarts: int | None = None
    """Restarts of all attempts; only on a cluster."""

    @property
    def last(self) -> Progress | None:
        return self.rows[-1] if self.rows else None

    @property
    def restarts(self) -> int:
        """Restarts of all attempts if known, else of ranks in this one. Every node counts a restart, so the highest count is used."""
        if self.all_restarts is not None:
            return self.all_restarts
        return max((node.restarts for node in self.nodes if node is not None), default=0)

    @property
    def resumed_from_step(self) -> int | None:
        return next((node.resumed_from_step for node in self.nodes if node is not None and node.resumed_from_step is not None), None)

    @property
    def tokens_per_second(self) -> float | None:
        recent = [row.tokens_per_second for row in self.rows[-RECENT:]]
        return median(recent) if recent else None

    @property
    def validation_loss(self) -> float | None:
        return next((row.validation_loss for row in reversed(self.rows) if row.validation_loss is not None), None)

    @property
    def validation_metrics(self) -> dict[str, float | None]:
        return next((row.validation_metrics for row in reversed(self.rows) if row.validation_metrics), {})

    @property
    def remaining_seconds(self) -> float | None:
        """Remaining steps at the median time of the newest ones, in seconds."""
        if self.last is None:
            return None
        return median(row.step_seconds for row in self.rows[-RECENT:]) * (self.last.target_steps - self.last.step)


@dataclass(slots=True)
class Watch:
    """Polls the agents and reads new rows of their files."""

    agents: Sequence[AgentProcess]
    workdir: Workdir
    began: float = field(default_factory=time.time)
    """When the run began, seconds since the epoch."""

    _rows: dict[int, Progress] = field(default_factory=dict)
    _answers: dict[int, NodeStatus] = field(default_factory=dict)
    _checkpoint: CheckpointStatus | None = None
    _trains: bool = False
    """Whether a step of this run was seen. From then on, rows of earlier runs are shown too, as the beginning of the curve."""

    _metrics: Tail = field(init=False)
    _events: list[Tail] = field(init=False)

    def __post_init__(self) -> None:
        self._metrics = Tail(self.workdir.node(0) / "metrics.jsonl")
        self._events = [Tail(self.workdir.node(agent.node_rank) / "events.jsonl") for agent in self.agents]
        self._news()  # events of an earlier attempt are not news, but its checkpoints count

    def look(self) -> Snapshot:
        """A snapshot; takes as long as the answers, at most a second per agent."""
        for row in self._metrics.rows():
            progress = Progress.model_validate(row)
            self._rows[progress.step] = progress
            self._trains = self._trains or progress.time >= self.began
        news, newest = self._news(), self._newest_step()
        return Snapshot(
            time=time.time(),
            nodes=tuple(self._node(agent) for agent in self.agents),
            rows=tuple(self._rows[step] for step in sorted(self._rows) if step <= newest) if self._trains else (),
            checkpoint=self._checkpoint,
            news=tuple(news),
        )

    def _newest_step(self) -> int:
        """The step written last. After a resume from an earlier step, rows beyond it are about to be recomputed."""
        return max(self._rows.values(), key=lambda row: row.time).step if self._rows else 0

    def _news(self) -> list[Happening]:
        rows = [(row, node) for node, tail in enumerate(self._events) for row in tail.rows()]
        rows.sort(key=lambda pair: pair[0].get("time", math.inf))
        for row, _ in rows:
            if row.get("kind") == "checkpoint_committed":
                self._checkpoint = CheckpointStatus(
                    name=row["name"], step=row["step"], uri="", bytes=row.get("bytes", 0), committed_at=row["time"]
                )
        return [Happening(node, str(row.get("kind", "")), str(row.get("message", ""))) for row, node in rows]

    def _node(self, agent: AgentProcess) -> NodeStatus | None:
        """The agent's answer, else its last one; after it has ended, with its verdict."""
        rank = agent.node_rank
        if (answer := _status(agent)) is not None:
            self._answers[rank] = answer
        verdict = None if agent.alive else self.workdir.verdict(rank)
        if verdict is not None and rank in self._answers:
            phase = "done" if verdict.exit_code in (ExitCode.DONE, ExitCode.SAVED) else "failed"
            self._answers[rank] = self._answers[rank].model_copy(update={"phase": phase, "message": verdict.message, "verdict": verdict})
        return self._answers.get(rank)


def _status(agent: AgentProcess) -> NodeStatus | None:
    if not agent.alive:
        return None
    try:
        with urllib.request.urlopen(f"http://{joined(loopback(), agent.port)}/status", timeout=1) as answer:
            return NodeStatus.model_validate_json(answer.read())
    except (urllib.error.URLError, OSError):
        return None
