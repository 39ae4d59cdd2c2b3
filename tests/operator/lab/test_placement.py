"""Waiting for a place is no failure: it uses up no budget, however long it takes."""

from __future__ import annotations

import pytest
from tests.operator.lab.lab import Lab

pytestmark = pytest.mark.long


@pytest.mark.parametrize("size", [3])
async def test_a_gang_waits_for_its_last_node_for_hours_and_trains_when_it_comes(size: int) -> None:
    lab = Lab(nodes=size - 1)
    training = {"globalBatchSize": 6, "sequenceLength": 64, "maxSteps": 1_000_000, "precision": "fp32"}
    one = lab.submit("one", resources={"nodes": size}, training=training, startupDeadlineSeconds=1800)
    await lab.run(5400, tick=10)
    status = lab.status(one)
    assert (status["restarts"]["inWindow"], status["restarts"]["streak"]) == (0, 0)
    assert status["failure"]["reason"] == "GangIncomplete" and "had no node" in status["failure"]["message"]
    assert status["avoidedNodes"] == []
    lab.kubelets.add_node("late")
    await lab.run(1200, tick=5)
    assert lab.status(one)["phase"] == "Running"


async def test_a_container_that_takes_long_to_start_is_waited_for_too() -> None:
    lab = Lab(nodes=2)
    lab.kubelets.slow["n1"] = 1500  # an image of many gigabytes, the first time
    one = lab.submit("one")
    await lab.run(700, tick=5)
    lab.kubelets.slow.clear()
    await lab.run(600, tick=5)
    status = lab.status(one)
    assert (status["phase"], status["attempt"], status["restarts"]["inWindow"]) == ("Running", 2, 0)
    assert "was not started in time" in status["failure"]["message"]


async def test_a_node_that_comes_just_before_the_others_give_up_is_charged_to_nobody() -> None:
    lab = Lab(nodes=1)
    one = lab.submit("one")
    await lab.run(601)
    lab.kubelets.add_node("late")
    lab.kubelets.slow["late"] = 10
    await lab.run(400)
    status = lab.status(one)
    assert (status["phase"], status["restarts"]["inWindow"]) == ("Running", 0)
    assert status["progress"]["step"] > 0


async def test_the_startup_deadline_begins_with_the_last_node() -> None:
    lab = Lab(nodes=1)
    lab.trainers.step_seconds = 0
    one = lab.submit("one", startupDeadlineSeconds=300)
    await lab.run(550)
    lab.kubelets.add_node("late")
    await lab.run(250)
    assert lab.status(one)["attempt"] == 1
    await lab.run(100)
    assert lab.status(one)["failure"]["reason"] == "StartupDeadline"


async def test_a_job_that_lost_a_node_waits_for_another_as_long_as_it_takes() -> None:
    lab = Lab(nodes=2)
    one = lab.submit("one")
    await lab.run(300, tick=5)
    lab.kubelets.dead.add("n1")
    lab.kubelets.set_ready("n1", False)
    await lab.run(5400, tick=10)
    assert (lab.status(one)["restarts"]["inWindow"], lab.status(one)["failure"]["reason"]) == (1, "GangIncomplete")
    lab.kubelets.add_node("spare")
    await lab.run(1200, tick=10)
    status = lab.status(one)
    assert (status["phase"], status["avoidedNodes"]) == ("Running", ["n1"]) and status["progress"]["step"] > 300


async def test_the_jobs_own_deadline_counts_waiting_for_a_node_and_begins_anew_after_a_suspension() -> None:
    lab = Lab(nodes=1)
    one = lab.submit("one", activeDeadlineSeconds=1000)
    await lab.run(900, tick=5)
    assert lab.status(one)["phase"] != "Failed"
    lab.edit(one, suspend=True)
    await lab.run(60, tick=5)
    lab.edit(one, suspend=False)
    await lab.run(900, tick=5)
    assert lab.status(one)["phase"] != "Failed", "1800 s in all, and 900 since it was taken up again"
    await lab.run(200, tick=5)
    assert (lab.status(one)["phase"], lab.status(one)["goodput"]["suspendedSeconds"] > 0) == ("Failed", True)
