"""A machine that sleeps for longer than `hang` allows: its ranks did not run either, so none of them hangs."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_agent import Job

from llmtrain_trainer.agent.policies import judge
from llmtrain_trainer.agent.policies.round import Round, RoundDecision
from llmtrain_trainer.agent.processes.ranks import RankProcesses
from llmtrain_trainer.agent.telemetry.board import Board, Events
from llmtrain_trainer.agent.telemetry.metrics import AgentMetrics
from llmtrain_trainer.agent.telemetry.notice_watch import NoticeWatch
from llmtrain_trainer.agent.watch import NodeContext, RoundWatch
from llmtrain_trainer.config import Heartbeat, NodeStatus
from llmtrain_trainer.run_dir.layout import RunDir, read_rows

LIMIT, LOOK = 4.0, 0.1


class Clock:
    """Stands for the module `time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


class Machine:
    """A node with one rank, and the clock that both run by."""

    def __init__(self, job: Job, root: Path, clock: Clock) -> None:
        config, self.run, self.clock = job.config(root / "store", hangSeconds=LIMIT), RunDir(root / "run"), clock
        self.run.root.mkdir()
        board, events = Board(NodeStatus(job="tiny", attempt=1, node_rank=0, phase="training")), Events(self.run, "")
        metrics, notices = AgentMetrics(config, "node 0"), NoticeWatch(self.run, events, board)
        stop: Any = SimpleNamespace(requested=False)
        process: Any = SimpleNamespace(pid=os.getpid())
        node = NodeContext(
            config=config, run=self.run, name="node 0", board=board, events=events, metrics=metrics, stop=stop, notices=notices, began=0.0
        )
        self.watch = RoundWatch(node)
        self.watch.start([0], RankProcesses({0: process}), 0)

    def beat(self, step: int) -> None:
        path = self.run.heartbeat(0)
        path.parent.mkdir(exist_ok=True)
        path.write_text(Heartbeat(rank=0, pid=os.getpid(), step=step, phase="step", time=self.clock.now).model_dump_json(by_alias=True))

    def judged(self) -> RoundDecision:
        """What the policies make of it."""
        heartbeats = self.watch.heartbeats()
        return judge(Round(node="node 0", now=self.clock.now, ranks=1, codes={}, fenced=False, grace_over=False, heartbeats=heartbeats))

    def goes_on(self, seconds: float) -> None:
        """The agent looks as often as it does; the rank says nothing."""
        for _ in range(round(seconds / LOOK)):
            self.clock.now += LOOK
            self.watch.tick()


@pytest.fixture
def machine(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    clock = Clock()
    monkeypatch.setattr("llmtrain_trainer.agent.watch.time", clock)
    return Machine(job, tmp_path, clock)


def test_a_machine_that_slept_goes_on_where_it_was_and_says_so(machine: Machine) -> None:
    machine.beat(3)
    machine.goes_on(1)
    machine.clock.now += 6.5
    machine.goes_on(LOOK)
    assert machine.judged().action == "wait"
    (asleep,) = [event for event in read_rows(machine.run.events) if event["kind"] == "asleep"]
    assert asleep["message"] == "node 0 did not run for 7 s: it slept, or was stopped. That is no hang of its ranks."


def test_a_rank_that_is_silent_on_a_machine_that_runs_hangs(machine: Machine) -> None:
    machine.beat(3)
    machine.goes_on(LIMIT + 1)
    found = machine.judged().failure
    assert found is not None and (found.kind, found.rank, found.step) == ("hang", 0, 3)
    assert not [event for event in read_rows(machine.run.events) if event["kind"] == "asleep"]
