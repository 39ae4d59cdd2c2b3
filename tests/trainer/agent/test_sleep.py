"""A machine that sleeps for longer than `hang` allows, played by stopping the agent and all below it."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import psutil
import pytest
from tiny_agent import Job, Start

pytestmark = pytest.mark.processes


def test_a_machine_that_slept_goes_on_where_it_was(job: Job, start: Start, tmp_path: Path) -> None:
    agent = start(job.config(tmp_path / "store", steps=60, every=60, hangSeconds=4.0))
    agent.until_step(3)
    family = [*reversed(agent.family()), psutil.Process(agent.process.pid)]
    for process in reversed(family):
        process.send_signal(signal.SIGSTOP)
    time.sleep(6.5)
    for process in family:
        process.send_signal(signal.SIGCONT)
    assert agent.wait() == 0, agent.log()
    assert agent.verdict().restarts == 0 and agent.events("hang") == []
    assert "did not run for " in agent.events("asleep")[0]["message"]
