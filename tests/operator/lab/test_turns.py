"""Gangs of many jobs on one cluster, without a scheduler of gangs: what cannot be placed, or is not let in, costs the others seconds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.operator.lab.lab import Lab

from llmtrain_operator.kube.api.client import ApiError, Object
from llmtrain_operator.kube.names import JobKey

pytestmark = pytest.mark.long

GPUS = {
    "resources": {"nodes": 2, "gpusPerNode": 8, "gpu": "H100-80GB"},
    "training": {"globalBatchSize": 16, "sequenceLength": 64, "maxSteps": 100, "precision": "fp32"},
}


def no_gpus(pod: Object, _node: Object) -> bool:
    return "nvidia.com/gpu" not in (pod["spec"]["containers"][0]["resources"].get("limits") or {})


def no_selectors(pod: Object, _node: Object) -> bool:
    return not pod["spec"].get("nodeSelector")


def quota(lab: Lab, namespace: str, most: int) -> Callable[[Object], None]:
    """Admits so many pods of a namespace."""

    def admit(found: Object) -> None:
        if found["kind"] != "Pod" or found["metadata"]["namespace"] != namespace:
            return
        used = len(lab.server.find("Pod", namespace))
        if used >= most:
            said = f"exceeded quota: team, requested: pods=1, used: pods={used}, limited: pods={most}"
            raise ApiError(403, "Forbidden", f'pods "{found["metadata"]["name"]}" is forbidden: {said}')

    return admit


async def waited(lab: Lab, key: JobKey, most: float) -> float:
    """Seconds until the job runs."""
    began = lab.now
    while lab.status(key).get("phase") != "Running" and lab.now - began < most:
        await lab.run(1)
    return lab.now - began


@pytest.mark.parametrize("where", ["a", "b"])
@pytest.mark.parametrize("how_many", [1, 25])
async def test_gangs_that_no_node_can_take_hold_up_a_good_one_for_seconds(how_many: int, where: str) -> None:
    lab = Lab(nodes=4, fits=no_gpus)
    for number in range(how_many):
        lab.submit(f"bad{number}", "a", **GPUS)
    await lab.run(300, tick=2)
    good = lab.submit("good", where)
    assert await waited(lab, good, 600) <= 15
    assert max(lab.status(("a", f"bad{number}")).get("attempt") or 0 for number in range(how_many)) <= 2


async def test_neither_do_gangs_that_come_at_the_same_time() -> None:
    lab = Lab(nodes=4, fits=no_gpus)
    for number in range(30):
        lab.submit(f"bad{number}", "a", **GPUS)
    assert await waited(lab, lab.submit("good", "a"), 600) <= 20


async def test_neither_do_gangs_that_ask_for_different_things_in_another_namespace() -> None:
    lab = Lab(nodes=4, fits=no_selectors)
    for number in range(30):
        lab.submit(f"bad{number}", "a", scheduling={"nodeSelector": {"no": f"such{number}"}})
    await lab.run(20)
    assert await waited(lab, lab.submit("good", "b"), 600) <= 20


@pytest.mark.parametrize("how_many", [1, 10])
async def test_gangs_that_are_larger_than_the_cluster_hold_up_a_good_one_for_less_than_a_minute(how_many: int) -> None:
    lab = Lab(nodes=4)
    for number in range(how_many):
        lab.submit(f"large{number}", "a", resources={"nodes": 8})
    await lab.run(300, tick=2)
    assert await waited(lab, lab.submit("good", "b"), 600) <= 60


async def test_a_gang_that_did_not_fit_is_placed_as_soon_as_nodes_are_free_whatever_else_waits() -> None:
    lab = Lab(nodes=4, fits=no_gpus)
    first = lab.submit("first", "a", resources={"nodes": 4})
    await lab.run(30)
    for number in range(10):
        lab.submit(f"bad{number}", "c", **GPUS)
    good = lab.submit("good", "b")
    await lab.run(400, tick=5)
    assert lab.status(good)["phase"] != "Running"
    await lab.delete(lab.job(first))
    assert await waited(lab, good, 600) <= 30


@pytest.mark.parametrize("most", [0, 1])
async def test_a_quota_that_admits_a_part_of_a_gang_holds_up_nobody_and_no_node(most: int) -> None:
    lab = Lab(nodes=2)
    lab.server.admission.append(quota(lab, "a", most))
    bad = lab.submit("bad", "a")
    await lab.run(5)
    good = lab.submit("good", "b")
    assert await waited(lab, good, 600) <= 60
    await lab.run(1800, tick=5)
    assert lab.pods(bad) == []
    assert lab.status(bad)["message"].startswith("Quota team of namespace a has no room for the pods")
    assert lab.requests("POST", "/namespaces/a/pods") < 30, "what was refused is asked less and less often"


@pytest.mark.parametrize("code", [403, 500])
async def test_a_pod_that_is_refused_holds_up_no_gang(code: int) -> None:
    def refuse(found: Object) -> None:
        if found["kind"] == "Pod" and found["metadata"]["namespace"] == "a":
            raise ApiError(code, "Forbidden" if code == 403 else "InternalError", "failed calling webhook: connection refused")

    lab = Lab(nodes=4)
    lab.server.admission.append(refuse)
    bad = [lab.submit(f"bad{nodes}", "a", resources={"nodes": nodes}) for nodes in (1, 2)]
    await lab.run(10)
    assert await waited(lab, lab.submit("good", "b"), 600) <= 5
    for key in bad:
        assert "failed calling webhook" in lab.status(key)["message"]
    lab.server.admission.clear()
    lab.edit(bad[1], resources={"nodes": 2, "cpu": "1"})
    assert await waited(lab, bad[1], 60) <= 5, "a new manifest is tried at once"


async def test_many_gangs_that_fit_are_all_placed_one_after_the_other() -> None:
    lab = Lab(nodes=20)
    keys = [lab.submit(f"job{number}", f"team{number % 3}") for number in range(10)]
    await lab.run(60)
    assert {lab.status(key)["phase"] for key in keys} == {"Running"}
    assert {lab.status(key)["attempt"] for key in keys} == {1}


async def test_gangs_larger_than_the_cluster_that_wait_for_each_other_are_tried_less_and_less_often() -> None:
    lab = Lab(nodes=4)
    keys = [lab.submit(f"large{number}", "a", resources={"nodes": 8, "cpu": str(number + 1)}) for number in range(3)]
    await lab.run(1800, tick=10)
    assert max(lab.status(key)["attempt"] for key in keys) <= 12
