"""Engine deepspeed under a real agent: killed ranks, another number of replicas, another engine after it."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "agent"))

from tiny_agent import Agent, Job

from llmtrain_trainer.config import ExitCode

pytestmark = pytest.mark.processes
ZERO_3 = {"engine": "deepspeed", "mesh": {"zeroStage": 3}}
ZERO_3_ALONE = {"engine": "deepspeed", "mesh": {"zeroStage": 3, "dp": 1, "procsPerNode": 1}}


class Runs:
    """Agents of one job over one store."""

    def __init__(self, root: Path) -> None:
        self.root, self.job, self.agents = root, Job(root), list[Agent]()

    def start(self, name: str, store: str, hold: int | None = None, **changes: Any) -> Agent:
        given = {key: dict(value) if isinstance(value, dict) else value for key, value in changes.items()}
        config = self.job.config(self.root / store, **given)
        self.agents.append(Agent(config, self.root / name, self.job.cache, hold=hold))
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
    """Losses of all steps where nothing interrupts."""
    agent = runs.start("undisturbed", "store-undisturbed", **ZERO_3)
    assert agent.wait() == 0, agent.log()
    return agent.losses()


def test_a_killed_rank_comes_back_and_the_losses_are_those_of_a_run_that_nothing_disturbed(
    runs: Runs, undisturbed: dict[int, float]
) -> None:
    agent = runs.start("killed", "store", hold=12, **ZERO_3)
    agent.until_step(12)
    agent.until_committed(10)
    os.kill(agent.pid_of(1), signal.SIGKILL)
    agent.release()
    assert agent.wait() == 0, agent.log()
    assert [event["reason"] for event in agent.events("restart")] == ["killed"]
    assert [event["step"] for event in agent.events("restore")] == [10]
    assert agent.losses() == undisturbed


@pytest.fixture(scope="module")
def stopped(runs: Runs) -> Path:
    """The store of a run that was told to stop on its way."""
    first = runs.start("two", "stopped", hold=7, **ZERO_3)
    first.until_step(7)
    first.process.send_signal(signal.SIGTERM)
    first.until(first.run.stop.exists, "the wish to stop")
    first.release()
    assert first.wait() == ExitCode.SAVED, first.log()
    return runs.root / "stopped"


@pytest.mark.parametrize("change", [ZERO_3_ALONE, {"engine": "native"}], ids=["one replica", "another engine"])
def test_another_layout_and_another_engine_go_on_from_its_checkpoint(
    runs: Runs, stopped: Path, undisturbed: dict[int, float], change: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.id.replace(" ", "-")
    shutil.copytree(stopped, runs.root / f"store-{name}")
    second = runs.start(name, f"store-{name}", job={"name": "tiny", "attempt": 1}, **change)
    assert second.wait() == 0, second.log()
    (restored,) = second.events("restore")
    assert restored["step"] == 8
    losses = second.losses()
    assert min(losses) == restored["step"] + 1
    assert losses == pytest.approx({step: undisturbed[step] for step in losses}, abs=1e-5)
