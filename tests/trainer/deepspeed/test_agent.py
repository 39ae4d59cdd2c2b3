"""Engine deepspeed under a real agent: killed ranks, another number of replicas, another engine's files."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "agent"))

from tiny_agent import Agent, Job, free_port

from llmtrain_trainer.config import ExitCode

pytestmark = pytest.mark.processes
ZERO_3 = {"engine": "deepspeed", "mesh": {"zeroStage": 3}}
ZERO_3_ALONE = {"engine": "deepspeed", "mesh": {"zeroStage": 3, "dp": 1, "procsPerNode": 1}}


class Runs:
    """Agents of one job over one store."""

    def __init__(self, root: Path) -> None:
        self.root, self.job, self.agents = root, Job(root), list[Agent]()

    def start(self, name: str, store: str, **changes: Any) -> Agent:
        given = {key: dict(value) if isinstance(value, dict) else value for key, value in changes.items()}
        config = self.job.config(self.root / store, **given)
        self.agents.append(Agent(config, self.root / name, self.job.cache, node=0, port=free_port(), grace=30.0))
        return self.agents[-1]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    made = Runs(tmp_path_factory.mktemp("deepspeed"))
    yield made
    for agent in made.agents:
        if agent.process.poll() is None:
            agent.process.send_signal(signal.SIGKILL)
            agent.process.wait()


@pytest.fixture(scope="module")
def undisturbed(runs: Runs) -> dict[int, float]:
    """Losses of 20 steps that nothing interrupts."""
    agent = runs.start("undisturbed", "store-undisturbed", steps=20, **ZERO_3)
    assert agent.wait() == 0, agent.log()
    return agent.losses()


def test_a_killed_rank_comes_back_and_the_losses_are_those_of_a_run_that_nothing_disturbed(
    runs: Runs, undisturbed: dict[int, float]
) -> None:
    agent = runs.start("killed", "store", steps=20, **ZERO_3)
    agent.until_step(12)
    os.kill(agent.pid_of(1), signal.SIGKILL)
    assert agent.wait() == 0, agent.log()
    assert [event["reason"] for event in agent.events("restart")] == ["killed"]
    assert agent.events("restore"), "it went on from a checkpoint"
    assert agent.losses() == undisturbed


def test_one_replica_goes_on_from_the_checkpoint_of_two(runs: Runs, undisturbed: dict[int, float]) -> None:
    first = runs.start("two", "shared", steps=20, **ZERO_3)
    first.until(lambda: first.events("checkpoint_committed"), "a checkpoint")
    first.process.send_signal(signal.SIGTERM)
    assert first.wait() == ExitCode.SAVED, first.log()
    second = runs.start("one", "shared", steps=20, job={"name": "tiny", "attempt": 1}, **ZERO_3_ALONE)
    assert second.wait() == 0, second.log()
    (restored,) = second.events("restore")
    assert 0 < restored["step"] < 20
    losses = second.losses()
    assert min(losses) == restored["step"] + 1
    assert losses == pytest.approx({step: undisturbed[step] for step in losses}, abs=1e-5)


def test_another_engine_is_told_whose_files_these_are(runs: Runs, undisturbed: dict[int, float]) -> None:
    assert undisturbed
    second = runs.start("ours", "store-undisturbed", steps=30, job={"name": "tiny", "attempt": 1})
    assert second.wait() == ExitCode.CONFIG, second.log()
    assert "written by engine deepspeed, and engine native cannot read its files" in second.verdict().message
