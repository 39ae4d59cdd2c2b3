"""A job of engine megatron under the agent, with the stand-in for CUDA in its ranks: what a killed rank makes it repeat is the same."""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from pathlib import Path

import pytest
from tiny_agent import STEPS, Agent, Job

from llmtrain_trainer.run_dir.layout import read_rows

pytestmark = pytest.mark.processes


def test_steps_that_a_resumed_run_trains_again_have_the_losses_they_had(tmp_path: Path, stand_in: None) -> None:
    job = Job(tmp_path)
    mesh = {"tp": 2, "dp": 1, "zeroStage": 1}
    config = job.config(tmp_path / "store", every=4, engine="megatron", mesh=mesh)
    agent = Agent(config, tmp_path / "run", job.cache, hold=6)
    try:
        agent.until_step(6)
        agent.until_committed(4)
        os.kill(agent.pid_of(1), signal.SIGKILL)
        agent.release()
        assert agent.wait() == 0, agent.log()
    finally:
        agent.process.kill()
    (restored,) = agent.events("restore")
    assert restored["step"] == 4
    losses = defaultdict(list)
    for row in read_rows(agent.run.metrics):
        losses[row["step"]].append(row["loss"])
    again = {step: values for step, values in losses.items() if len(values) > 1}
    assert sorted(again) == [5, 6]
    assert all(first == second for first, second in again.values())
    assert sorted(losses) == list(range(1, STEPS + 1))
