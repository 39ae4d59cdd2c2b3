"""What others put into our pods must not keep their devices once the trainer has ended."""

from __future__ import annotations

import pytest
from tests.operator.lab.kubelets import said
from tests.operator.lab.lab import Lab
from tests.operator.lab.trainers import label

from llmtrain_operator.kube.api.client import Object

pytestmark = pytest.mark.long

SHORT = {"globalBatchSize": 8, "sequenceLength": 64, "maxSteps": 100, "precision": "fp32"}
SIDECAR = {"name": "istio-proxy", "image": "proxy"}


def inject(pod: Object) -> None:
    """As a mesh's webhook does, in front of ours."""
    if pod["kind"] == "Pod":
        pod["spec"]["containers"].insert(0, SIDECAR)


@pytest.mark.parametrize("kubelet_helps", [True, False])
async def test_a_job_that_is_complete_gives_its_nodes_to_the_next(kubelet_helps: bool) -> None:
    lab = Lab(nodes=2)
    lab.server.admission.append(inject)
    one = lab.submit("one", training=SHORT)
    await lab.run(105)
    if not kubelet_helps:
        lab.kubelets.away.update({"n0", "n1"})
    two = lab.submit("two")
    await lab.run(120)
    lab.kubelets.away.clear()
    await lab.run(60)
    assert (lab.status(one)["phase"], lab.status(one)["message"]) == ("Complete", "Training is complete.")
    assert lab.pods(one) == [] and lab.status(two)["phase"] == "Running"
    assert any("istio-proxy still runs" in told for told in lab.events(one))


async def test_a_gang_that_failed_starts_again_on_the_same_nodes() -> None:
    lab = Lab(
        nodes=2,
        ends=lambda pod: (
            said(1, "RankFailed", "Rank 0 failed.") if label(pod, "llmtrain.io/attempt") == "1" and lab.kubelets.age(pod) > 30 else None
        ),
    )
    lab.server.admission.append(inject)
    one = lab.submit("one")
    await lab.run(180)
    status = lab.status(one)
    assert (status["phase"], status["attempt"], status["failure"]["message"]) == ("Running", 2, "Rank 0 failed.")


async def test_a_job_that_fails_for_good_gives_its_nodes_back_with_its_reason_kept() -> None:
    lab = Lab(nodes=2, ends=lambda pod: said(2, "BadData", "Row 7 is no row.") if lab.kubelets.age(pod) > 30 else None)
    lab.server.admission.append(inject)
    one = lab.submit("one")
    await lab.run(180)
    assert (lab.status(one)["phase"], lab.status(one)["failure"]["reason"], lab.pods(one)) == ("Failed", "BadData", [])


async def test_a_container_that_ends_a_moment_before_its_pod_is_no_sidecar() -> None:
    """Some kubelets tell of the container first; the pod stays for its logs."""
    lab = Lab(nodes=2)
    one = lab.submit("one", training=SHORT)
    await lab.run(101)
    for pod in lab.pods(one):
        pod["status"]["phase"] = "Running"
    await lab.run(20)
    for pod in lab.pods(one):
        pod["status"]["phase"] = "Succeeded"
    await lab.run(60)
    assert lab.status(one)["phase"] == "Complete" and len(lab.pods(one)) == 2


async def test_a_pod_without_a_sidecar_stays_for_its_logs() -> None:
    lab = Lab(nodes=2)
    one = lab.submit("one", training=SHORT)
    await lab.run(300)
    assert len(lab.pods(one)) == 2 and not any("SidecarRunsOn" in told for told in lab.events(one))
