"""A pod that is evicted for passing a limit of its own did it itself: no node is avoided, and the same again ends the job."""

from __future__ import annotations

import pytest
from tests.operator.lab.kubelets import Exit
from tests.operator.lab.lab import Lab

pytestmark = pytest.mark.long

OWN = [
    "Pod ephemeral local storage usage exceeds the total limit of containers 10Gi. ",
    'Container trainer exceeded its local ephemeral storage limit "10Gi". ',
    'Usage of EmptyDir volume "run" exceeds the limit "20Gi". ',
]
PRESSURE = (
    "The node was low on resource: memory. Threshold quantity: 100Mi, available: 90Mi. Container trainer was using 12Gi, request is 0, "
    "has larger consumption of memory. "
)


@pytest.mark.parametrize("message", OWN)
async def test_a_pod_that_passes_its_own_limit_twice_without_progress_ends_the_job(message: str) -> None:
    lab = Lab(nodes=30, ends=lambda pod: Exit(code=137, evicted=message) if lab.kubelets.age(pod) > 60 else None)
    lab.trainers.step_seconds = 0
    one = lab.submit("one")
    await lab.run(3600, tick=5)
    status = lab.status(one)
    assert (status["phase"], status["attempt"], status["failure"]["reason"]) == ("Failed", 2, "LimitExceeded")
    assert status["avoidedNodes"] == [] and message.strip().rstrip(".") in status["message"]


async def test_one_that_gets_further_each_time_goes_on_within_its_budget() -> None:
    lab = Lab(nodes=30, ends=lambda pod: Exit(code=137, evicted=OWN[0]) if lab.kubelets.age(pod) > 60 else None)
    one = lab.submit("one", resilience={"restarts": {"max": 4}})
    await lab.run(3600, tick=5)
    status = lab.status(one)
    assert (status["phase"], status["attempt"], status["avoidedNodes"]) == ("Failed", 5, [])
    assert "budget of 4" in status["message"]


async def test_a_node_that_runs_short_is_avoided_and_nodes_that_all_do_are_not() -> None:
    ended: list[str] = []

    def ends(pod: dict[str, dict[str, str]]) -> Exit | None:
        if lab.kubelets.age(pod) < 60 or len(ended) >= most:
            return None
        ended.append(pod["spec"]["nodeName"])
        return Exit(code=137, evicted=PRESSURE)

    lab, most = Lab(nodes=30, ends=ends), 1
    one = lab.submit("one")
    await lab.run(300)
    assert lab.status(one)["avoidedNodes"] == ended[:1]
    most = 100
    await lab.run(2 * 3600, tick=10)
    assert lab.status(one)["phase"] == "Failed" and len(lab.status(one)["avoidedNodes"]) <= 1
