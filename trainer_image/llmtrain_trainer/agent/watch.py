"""Watches the current round: heartbeats and rows, progress, and silence."""

from __future__ import annotations

import collections
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import psutil

from llmtrain_trainer.agent.policies.hang import Listening, patience
from llmtrain_trainer.agent.policies.round import Heartbeats
from llmtrain_trainer.agent.processes.ranks import RankProcesses
from llmtrain_trainer.agent.stop import Stop
from llmtrain_trainer.agent.telemetry.board import Board, Events, RowTail, read_heartbeats
from llmtrain_trainer.agent.telemetry.metrics import AgentMetrics
from llmtrain_trainer.agent.telemetry.notice_watch import NoticeWatch
from llmtrain_trainer.agent.telemetry.timeline import Timeline
from llmtrain_trainer.config import Heartbeat, TrainerConfig
from llmtrain_trainer.run_dir.layout import RunDir


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeContext:
    """What the watch and the supervisor share of this node."""

    config: TrainerConfig
    run: RunDir
    name: str
    """Name of this node in messages."""
    board: Board
    events: Events
    metrics: AgentMetrics
    stop: Stop
    notices: NoticeWatch
    began: float
    """When the agent started, seconds since the epoch."""


class RoundWatch:
    """Heartbeats and rows of the current round: progress and silence."""

    def __init__(self, node: NodeContext) -> None:
        self._node = node
        self._tail = RowTail(node.run.metrics)
        self.timeline = Timeline(node.began, node.metrics.spent)
        self._ranks: list[int] = []
        self._processes = RankProcesses({})
        self._start_step = 0
        self._forked = 0.0
        self._listening = Listening(time.monotonic())
        self._advanced = (0.0, 0)
        self._step_seconds: collections.deque[float] = collections.deque(maxlen=100)
        self.first_start = True
        self.beats: list[Heartbeat] = []

    @property
    def step(self) -> int:
        """Steps that every rank of this node has completed."""
        return min((beat.step for beat in self.beats), default=self._start_step)

    @property
    def furthest(self) -> int:
        """Steps done in this round by heartbeats or rows, whichever is further: heartbeats lag if steps are short."""
        return max(self.step, self.timeline.step)

    @property
    def step_seconds(self) -> float:
        """Median time of a step so far; 0 before the first."""
        return statistics.median(self._step_seconds) if self._step_seconds else 0.0

    def start(self, ranks: list[int], processes: RankProcesses, step: int) -> None:
        """The ranks were forked; they resume after `step`."""
        self._ranks, self._processes, self._start_step, self._forked = ranks, processes, step, time.time()
        self.beats, self._advanced = [], (0.0, step)
        self._listening = Listening(time.monotonic())
        self.first_start = False
        self.timeline.starts(step)
        self._node.board.update(
            phase="starting",
            message=f"Starting {len(ranks)} {'rank' if len(ranks) == 1 else 'ranks'} after step {step}.",
            resumed_from_step=step or None,
        )

    def failed(self) -> None:
        """The ranks have ended."""
        self.tick()
        self.timeline.failed(None)

    def tick(self) -> None:
        """Read new heartbeats and rows and publish them."""
        self.beats = read_heartbeats(self._node.run) or self.beats
        if away := self._listening.look(self.beats, time.monotonic()):
            message = f"{self._node.name} did not run for {away:.0f} s: it slept, or was stopped. That is no hang of its ranks."
            self._node.events.record("asleep", message, step=self.step)
        self._node.metrics.heartbeats(self.beats)
        self._node.notices.look()
        self._note_progress()
        for row in self._tail.new_rows():
            self.timeline.row(row)
            self._node.metrics.row(row)
            self._node.board.update(progress=row)
        self._node.board.update(heartbeats=tuple(self.beats), **self._phase())

    def heartbeats(self) -> Heartbeats:
        """States of all ranks of this node."""
        known = {beat.rank: beat for beat in self.beats}
        pids = self._processes.pids()
        return Heartbeats(
            beats=[
                known.get(rank) or Heartbeat(rank=rank, pid=pids[rank], step=self._start_step, phase="start", time=self._forked)
                for rank in self._ranks
            ],
            silences={rank: self._listening.silence(rank) for rank in self._ranks},
            start_step=self._start_step,
            patience=patience(self._node.config.hang_seconds, self._step_seconds),
            states=partial(_states, pids),
        )

    def _note_progress(self) -> None:
        """Step times from heartbeats: nodes other than the first have no rows."""
        at, before = self._advanced
        newest = max(self.beats, key=lambda beat: beat.step, default=None)
        if newest is None or newest.step <= before:
            return
        if at:
            self._step_seconds.append((newest.time - at) / (newest.step - before))
        self._advanced = (newest.time, newest.step)

    def _phase(self) -> dict[str, Any]:
        phases = {beat.phase for beat in self.beats}
        if self._node.stop.requested:
            return {"phase": "saving", "message": "Told to stop; saving after this step."}
        if "export" in phases or phases == {"done"}:
            return {"phase": "exporting", "message": "Writing the exports."}
        if phases & {"step", "data", "evaluate", "save"}:
            return {"phase": "training", "message": f"Training: {self.step} steps done."}
        return {}


def _states(pids: Mapping[int, int]) -> dict[int, str]:
    """Process state of each rank, as psutil names it."""
    states = {}
    for rank, pid in pids.items():
        try:
            states[rank] = psutil.Process(pid).status()
        except psutil.NoSuchProcess:
            continue
    return states
