"""The laboratory itself: what it takes for granted of a cluster is what a cluster does, and a job without trouble is without trouble."""

from __future__ import annotations

import pytest
from tests.operator.lab.kubelets import Exit, said
from tests.operator.lab.lab import Lab

from llmtrain_operator.kube.api.client import ApiError, Object

pytestmark = pytest.mark.long

TRAINED = {"globalBatchSize": 8, "sequenceLength": 64, "maxSteps": 100, "precision": "fp32"}


async def test_a_job_without_trouble_trains_and_completes_with_one_attempt() -> None:
    lab = Lab()
    one = lab.submit("one", training=TRAINED)
    await lab.run(30)
    assert lab.status(one)["phase"] == "Running"
    await lab.run(180)
    status = lab.status(one)
    assert (status["phase"], status["attempt"], status["progress"]["step"]) == ("Complete", 1, 100)
    assert not lab.errors


@pytest.mark.parametrize("nodes", [1, 2])
async def test_a_gang_that_fails_starts_again_at_once(nodes: int) -> None:
    """Also where all pods ended before the operator looked: no event comes then that would make it look again."""
    failed: list[str] = []

    def once(pod: Object) -> Exit | None:
        if lab.kubelets.age(pod) < 20 or failed:
            return None
        failed.append(pod["metadata"]["name"])
        return said(1, "RankFailed", "Rank 0 failed.")

    lab = Lab(ends=once)
    one = lab.submit("one", resources={"nodes": nodes})
    await lab.run(40)
    status = lab.status(one)
    assert (status["phase"], status["attempt"], status["failure"]["reason"]) == ("Running", 2, "RankFailed")


async def test_a_deleted_job_takes_everything_of_its_own_along() -> None:
    lab = Lab()
    one = lab.submit("one")
    await lab.run(30)
    await lab.delete(lab.job(one))
    await lab.run(30)
    assert [(found["kind"]) for found in lab.server.store.values() if found["kind"] not in ("Node", "Event")] == []


async def test_apply_keeps_what_others_own_and_drops_what_nobody_wants_any_more() -> None:
    lab = Lab(nodes=0)
    path, meta = "/api/v1/namespaces/team/configmaps/one", {"name": "one", "namespace": "team"}
    base = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta}
    lab.server.put({**base, "metadata": {**meta, "labels": {"app": "db"}}, "data": {"theirs": "1"}}, manager="them")
    await lab.server.apply(path, {**base, "data": {"ours": "1", "both": "1"}})
    await lab.server.apply(path, {**base, "data": {"ours": "2"}})
    found = await lab.server.get(path)
    assert found is not None and found["data"] == {"theirs": "1", "ours": "2"} and found["metadata"]["labels"] == {"app": "db"}
    with pytest.raises(ApiError, match="conflicts with"):
        await lab.server.apply(path, {**base, "data": {"theirs": "3"}}, force="false")
    await lab.server.apply(path, {**base, "data": {"theirs": "3"}})
    assert (await lab.server.get(path) or {})["data"] == {"theirs": "3"}


async def test_an_operator_that_starts_anew_goes_on_where_the_old_one_was() -> None:
    lab = Lab()
    one = lab.submit("one")
    await lab.run(30)
    lab.operator_starts()
    await lab.run(600, tick=5)
    assert (lab.status(one)["phase"], lab.status(one)["attempt"]) == ("Running", 1)
