"""Jobs that write their checkpoints to one place."""

from __future__ import annotations

import pytest
from tests.operator.lab.lab import Lab

pytestmark = pytest.mark.long

NOWHERE = {"nodeSelector": {"no": "such"}}


def lab_with_selectors() -> Lab:
    return Lab(nodes=8, fits=lambda pod, _node: not pod["spec"].get("nodeSelector"))


@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("namespace", ["team-a", "team-b"])
async def test_a_job_that_was_never_placed_holds_no_destination(namespace: str, nodes: int) -> None:
    lab, there = lab_with_selectors(), {"destination": "s3://team-b-bucket/prod-run"}
    squat = lab.submit("squat", "team-a", checkpoint=there, scheduling=NOWHERE, resources={"nodes": nodes})
    await lab.run(600, tick=5)
    prod = lab.submit("prod", namespace, checkpoint=there)
    await lab.run(120)
    assert lab.status(prod)["phase"] == "Running"
    status = lab.status(squat)
    assert status["phase"] == "Pending" and status["attempt"] == 1
    assert ("team-a/prod" if namespace == "team-a" else "a job of another namespace") in status["message"]
    await lab.delete(lab.job(prod))
    await lab.run(60)
    assert lab.status(squat)["phase"] in ("Starting", "Queued"), "it tries again once the destination is free"


async def test_two_jobs_that_are_never_placed_do_not_chase_each_other_out() -> None:
    lab, there = lab_with_selectors(), {"destination": "s3://bucket/run"}
    keys = [lab.submit(name, checkpoint=there, scheduling=NOWHERE) for name in ("one", "two")]
    await lab.run(4 * 3600, tick=10)
    assert max(lab.status(key)["attempt"] for key in keys) <= 12


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("s3://bucket/run", "s3://bucket//run?1"),
        ("s3://bucket/run#2", "s3://bucket/run"),
        ("pvc://disk/run", "pvc://disk/./run/"),
        ("file:///mnt/pvc/disk/run", "pvc://disk/run"),
    ],
)
async def test_the_second_job_of_one_place_waits_under_whatever_name(first: str, second: str) -> None:
    lab = Lab(nodes=8)
    one = lab.submit("one", checkpoint={"destination": first})
    await lab.run(30)
    two = lab.submit("two", checkpoint={"destination": second})
    await lab.run(600, tick=5)
    assert lab.status(one)["phase"] == "Running"
    assert lab.status(two)["phase"] == "Pending" and "team/one is over or suspended" in lab.status(two)["message"]
    await lab.delete(lab.job(one))
    await lab.run(60)
    assert lab.status(two)["phase"] == "Running"


async def test_a_job_of_another_namespace_is_waited_for_while_its_pods_run_and_is_not_named() -> None:
    lab, there = Lab(nodes=8), {"destination": "s3://bucket/run"}
    one = lab.submit("secret-project", "team-a", checkpoint=there)
    await lab.run(30)
    two = lab.submit("two", "team-b", checkpoint=there)
    await lab.run(1800, tick=5)
    status = lab.status(two)
    assert status["phase"] == "Pending" and "a job of another namespace" in status["message"]
    assert "secret-project" not in str(status) and not any("secret-project" in event for event in lab.events(two))
    lab.edit(one, suspend=True)
    await lab.run(60)
    assert lab.status(two)["phase"] == "Running"
