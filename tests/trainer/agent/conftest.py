"""Agents as processes on the loopback, ended with their test."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from tiny_agent import STEPS, Agent, Job, Start

from llmtrain_trainer.config import TrainerConfig


@pytest.fixture(scope="session")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    return Job(tmp_path_factory.mktemp("job"))


@pytest.fixture
def start(job: Job, tmp_path: Path) -> Iterator[Start]:
    """Start an agent; what still runs after the test is killed."""
    agents: list[Agent] = []

    def begin(config: TrainerConfig, name: str = "run", *, node: int = 0, port: int | None = None, hold: int | None = None) -> Agent:
        agents.append(Agent(config, tmp_path / name, job.cache, node=node, port=port, hold=hold))
        return agents[-1]

    yield begin
    for agent in agents:
        if agent.process.poll() is None:
            agent.process.send_signal(signal.SIGKILL)
            agent.process.wait()


@pytest.fixture(scope="session")
def undisturbed(job: Job, tmp_path_factory: pytest.TempPathFactory) -> dict[int, float]:
    """Losses of all steps where nothing interrupts, in the default layout."""
    root = tmp_path_factory.mktemp("undisturbed")
    agent = Agent(job.config(root / "store"), root / "run", job.cache)
    try:
        assert agent.wait() == 0, agent.log()
    finally:
        agent.process.kill()
    losses = agent.losses()
    assert len(losses) == STEPS
    return losses
