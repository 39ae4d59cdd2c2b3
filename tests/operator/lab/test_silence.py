"""Silence of a channel says nothing about a job: not that it does not train, nor that its node is dead, nor that it hangs."""

from __future__ import annotations

import pytest
from tests.operator.lab.kubelets import Exit
from tests.operator.lab.lab import Lab
from tests.operator.lab.trainers import label

from llmtrain_operator.kube.api.client import Object
from llmtrain_operator.kube.names import JobKey
from llmtrain_operator.life.from_objects import LABEL_INDEX

pytestmark = pytest.mark.long


def many(size: int) -> Object:
    training = {"globalBatchSize": size, "sequenceLength": 64, "maxSteps": 1_000_000, "precision": "fp32"}
    return {"resources": {"nodes": size}, "training": training}


def node_of(lab: Lab, key: JobKey, index: int) -> str:
    return next(str(pod["spec"]["nodeName"]) for pod in lab.pods(key) if label(pod, LABEL_INDEX) == str(index))


async def test_a_job_whose_agents_cannot_be_reached_trains_on_and_says_so() -> None:
    lab = Lab()
    lab.trainers.silent = True
    one = lab.submit("one", startupDeadlineSeconds=1800)
    await lab.run(4000, tick=10)
    status = lab.status(one)
    assert (status["attempt"], status["restarts"]["total"]) == (1, 0)
    assert "has not answered for 1h0" in status["message"] and "not known" in status["message"]
    assert status["goodput"]["byCause"].get("hung") is None


@pytest.mark.parametrize("heard_for", [20, 300])
async def test_agents_that_fall_silent_end_nothing_and_are_believed_again_when_they_are_back(heard_for: int) -> None:
    lab = Lab()
    lab.trainers.step_seconds = 0  # they say that they start, and no step is ever done
    one = lab.submit("one", startupDeadlineSeconds=1800)
    await lab.run(heard_for)
    lab.trainers.silent = True
    await lab.run(2 * 3600, tick=10)
    assert lab.status(one)["attempt"] == 1
    lab.trainers.silent = False
    await lab.run(120)
    assert lab.status(one)["failure"]["reason"] == "StartupDeadline"


async def test_time_in_which_nobody_was_heard_is_not_booked_as_a_hang() -> None:
    lab = Lab()
    one = lab.submit("one")
    await lab.run(120)
    lab.trainers.silent = True
    await lab.run(1800, tick=10)
    status = lab.status(one)
    assert (status["phase"], status["attempt"]) == ("Running", 1)
    assert "as far as is known" in status["message"]
    assert status["goodput"]["byCause"].get("hung", 0) < 120


@pytest.mark.parametrize("size", [1, 16, 17])
async def test_a_kubelet_that_is_away_while_its_agent_answers_costs_nothing(size: int) -> None:
    lab = Lab(nodes=64)
    one = lab.submit("one", **many(size))
    await lab.run(120)
    away = node_of(lab, one, size - 1)
    lab.kubelets.away.add(away)
    lab.kubelets.set_ready(away, False)
    await lab.run(150)
    lab.kubelets.away.clear()
    lab.kubelets.set_ready(away, True)
    await lab.run(60)
    status = lab.status(one)
    assert (status["phase"], status["attempt"], status["avoidedNodes"]) == ("Running", 1, [])


@pytest.mark.parametrize("size", [1, 17])
async def test_a_kubelet_that_is_away_while_no_agent_can_be_heard_at_all_costs_nothing(size: int) -> None:
    lab = Lab(nodes=64)
    lab.trainers.silent = True
    one = lab.submit("one", **many(size))
    await lab.run(120)
    away = node_of(lab, one, size - 1)
    lab.kubelets.away.add(away)
    lab.kubelets.set_ready(away, False)
    await lab.run(150)
    lab.kubelets.away.clear()
    lab.kubelets.set_ready(away, True)
    await lab.run(60)
    assert (lab.status(one)["attempt"], lab.status(one)["avoidedNodes"]) == (1, [])


@pytest.mark.parametrize(("size", "index"), [(1, 0), (2, 0), (2, 1), (17, 0), (17, 16)])
async def test_a_node_that_is_dead_is_still_given_up_within_two_minutes(size: int, index: int) -> None:
    lab = Lab(nodes=64)
    one = lab.submit("one", **many(size))
    await lab.run(120)
    dead = node_of(lab, one, index % size)
    lab.kubelets.dead.add(dead)
    await lab.run(10)
    lab.kubelets.set_ready(dead, False)
    await lab.run(120)
    status = lab.status(one)
    assert (status["attempt"], status["failure"]["reason"], status["avoidedNodes"]) == (2, "NodeLost", [dead])


async def test_a_dead_node_is_given_up_later_where_no_agent_can_be_heard() -> None:
    lab = Lab()
    lab.trainers.silent = True
    one = lab.submit("one")
    await lab.run(120)
    dead = node_of(lab, one, 1)
    lab.kubelets.dead.add(dead)
    lab.kubelets.set_ready(dead, False)
    await lab.run(600)
    assert (lab.status(one)["attempt"], lab.status(one)["failure"]["reason"]) == (2, "NodeLost")


async def test_where_node_0_alone_cannot_be_heard_the_others_say_that_it_trains() -> None:
    lab = Lab()
    lab.trainers.unreachable.add(0)
    one = lab.submit("one", startupDeadlineSeconds=600)
    await lab.run(3600, tick=10)
    status = lab.status(one)
    assert (status["phase"], status["attempt"]) == ("Running", 1)
    assert "the agent of node 0 has not answered" in status["message"]


async def test_a_node_object_that_is_gone_ends_no_gang_whose_agent_answers() -> None:
    lab = Lab()
    one = lab.submit("one")
    await lab.run(60)
    name = node_of(lab, one, 1)
    lab.kubelets.away.add(name)
    lab.kubelets.set_ready(name, False)
    await lab.delete(next(node for node in lab.server.find("Node") if node["metadata"]["name"] == name))
    await lab.run(300)
    assert lab.status(one)["attempt"] == 1


@pytest.mark.parametrize(("silent", "attempts"), [(False, 2), (True, 4)])
async def test_nobody_who_was_not_heard_is_said_to_have_got_no_further(silent: bool, attempts: int) -> None:
    lab = Lab(ends=lambda pod: Exit(code=139) if lab.kubelets.age(pod) > 600 else None)
    lab.trainers.silent, lab.trainers.step_seconds = silent, 0
    one = lab.submit("one", resilience={"restarts": {"max": 3}})
    await lab.run(4000, tick=10)
    status = lab.status(one)
    assert (status["phase"], status["attempt"], status["failure"]["reason"]) == ("Failed", attempts, "Crashed")
    assert ("got no further" in status["message"]) == (not silent)
