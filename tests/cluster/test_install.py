"""`helm install` on a real cluster: two replicas of the image, a webhook that the API server asks, upgrades and removal without harm."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from tests.cluster.cluster import Cluster, Given
from tests.cluster.image.build import Images
from tests.cluster.release import CRD, NAME, NAMESPACE, Release, of_kind, rendered
from tests.cluster.test_operator_life import Life, condition, manifest
from tests.cluster.waiting import until

from llmtrain_operator.cli.app import invoke

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def simulated(cluster: Any) -> None:
    """Nodes on which a gang runs without training."""
    if not isinstance(cluster, Cluster):
        pytest.skip("needs kwok's nodes, which only the cluster that these tests start themselves has")
    cluster.add_simulated_nodes(4)


@pytest.fixture
def life(installed: Release, namespace: str) -> Life:
    return Life(installed.cluster, namespace)  # type: ignore[arg-type]


@pytest.fixture
def without_operator(installed: Release) -> Iterator[None]:
    """No replica runs."""
    installed.cluster.kubectl("scale", "deployment", NAME, "-n", NAMESPACE, "--replicas=0")
    until(lambda: not installed.pods(), "the replicas to be gone")
    yield
    installed.cluster.kubectl("scale", "deployment", NAME, "-n", NAMESPACE, "--replicas=2")
    installed.cluster.kubectl("rollout", "status", "deployment", NAME, "-n", NAMESPACE, "--timeout=90s")
    installed.until_asked()


def apply(life: Life, name: str, **spec: Any) -> str:
    """What kubectl says."""
    return life.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(manifest(life.namespace, name, **spec)), check=False)


def test_two_replicas_run_on_two_nodes_and_one_leads(installed: Release) -> None:
    until(lambda: len(installed.pods()) == 2, "the replicas of an earlier release to be gone")
    pods = installed.pods()
    assert len({pod["spec"]["nodeName"] for pod in pods}) == 2
    assert all(each["ready"] and each["restartCount"] == 0 for pod in pods for each in pod["status"]["containerStatuses"])
    until(lambda: bool(installed.leader()), "a leader")


@pytest.mark.timeout(600)
def test_helm_test_trains_a_job_and_leaves_none(installed: Release) -> None:
    said = installed.test()
    assert "Training is complete after 2 steps." in said, said
    left = installed.cluster.kubectl("get", "ltj,serviceaccounts,roles,rolebindings,configmaps", "-n", NAMESPACE, "-o", "name")
    assert f"/{NAME}-test" not in left, left


def test_a_person_sees_that_an_operator_is_at_work(
    life: Life, installed: Release, simulated: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    until(lambda: bool(installed.leader()), "a leader")
    apply(life, "seen")
    monkeypatch.setenv("KUBECONFIG", str(installed.cluster.kubeconfig))
    assert invoke(["why", "seen", "-n", life.namespace]) == 0
    said = capsys.readouterr().out
    assert said.startswith("seen is ") and "No operator" not in said, said


def test_the_pods_of_the_chart_are_admitted_where_only_restricted_pods_are(cluster: Given, namespace: str) -> None:
    template = of_kind(rendered(), "Deployment")[0]["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "operator", **template["metadata"]}, "spec": template["spec"]}
    pod["spec"]["serviceAccountName"] = "default"
    said = cluster.kubectl("create", "-n", namespace, "--dry-run=server", "-f", "-", stdin=json.dumps(pod), check=False)
    assert "created" in said and "violate" not in said, said


def test_the_api_server_takes_every_object_of_the_chart(cluster: Given, installed: Release) -> None:
    values = {"metrics": {"namespaces": ["monitoring"]}, "priorityClassName": "system-cluster-critical"}
    said = cluster.kubectl(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump_all(rendered(values))
    )
    assert len(said.splitlines()) == len(rendered(values))


def test_a_manifest_that_cannot_work_is_refused_with_the_plans_sentence(life: Life) -> None:
    said = apply(life, "bad", parallelism={"tensor": 3})
    assert 'admission webhook "plan.llmtrain.io" denied the request: spec.parallelism is pipeline 1 x context 1 x tensor 3 = 3' in said
    assert "spec.parallelism.tensor is 3: it must divide the attention heads (4)" in said and "Use 1 or 2." in said
    assert life.get("ltj")["items"] == []


def test_a_good_manifest_is_admitted_with_advice_and_planned_and_becomes_a_gang(life: Life, simulated: None) -> None:
    said = apply(life, "job")
    assert "Warning: spec.checkpoint is not set: after a failure the job restarts from step 0." in said and "created" in said
    until(lambda: life.pods("Running") == {"job-a1-0", "job-a1-1"}, "both pods to run")
    assert condition(life.status(), "Planned")["status"] == "True"


def test_when_no_replica_answers_only_new_and_changed_specs_are_refused(life: Life, simulated: None, without_operator: None) -> None:
    assert "failed calling webhook" in apply(life, "late")


def test_labels_finalizers_and_deletion_go_on_without_the_operator(
    life: Life, installed: Release, simulated: None, request: pytest.FixtureRequest
) -> None:
    assert "created" in apply(life, "job")
    request.getfixturevalue("without_operator")
    kubectl = life.cluster.kubectl
    kubectl("label", "ltj", "job", "-n", life.namespace, "team=ml")
    assert "failed calling webhook" in kubectl(
        "patch", "ltj", "job", "-n", life.namespace, "--type=merge", "-p", '{"spec":{"suspend":true}}', check=False
    )
    kubectl("delete", "ltj", "job", "-n", life.namespace, "--cascade=foreground", "--timeout=60s")
    assert life.get("ltj")["items"] == []


def test_an_upgrade_changes_no_pod_of_a_job_and_keeps_the_certificate(
    life: Life, installed: Release, images: Images, simulated: None
) -> None:
    assert "created" in apply(life, "job")
    until(lambda: life.pods("Running") == {"job-a1-0", "job-a1-1"}, "both pods to run")
    before, replicas = _pods(life), {pod["metadata"]["name"] for pod in installed.pods()}
    certificate = _certificate(installed)
    installed.install(image=images.operator, trainerImage=images.trainer, podAnnotations={"upgraded": "yes"})
    until(lambda: bool(installed.leader()) and installed.leader() not in replicas, "a new replica to lead")
    life.patch(suspend=False, ttlSecondsAfterFinished=600)
    until(lambda: life.status().get("observedGeneration") == life.get("ltj", "job")["metadata"]["generation"], "the new leader to look")
    assert _pods(life) == before and _certificate(installed) == certificate


def test_when_the_leader_is_killed_the_other_replica_leads_and_the_pods_stay(life: Life, installed: Release, simulated: None) -> None:
    assert "created" in apply(life, "job")
    until(lambda: life.pods("Running") == {"job-a1-0", "job-a1-1"}, "both pods to run")
    before, first = _pods(life), installed.leader()
    installed.cluster.kubectl("delete", "pod", first, "-n", NAMESPACE, "--grace-period=0", "--force", check=False)
    until(lambda: installed.leader() not in ("", first), "another leader")
    installed.until_asked()
    assert "created" in apply(life, "next")
    until(lambda: "next-a1-0" in life.pods("Running"), "the next job to run")
    assert {name: uid for name, uid in _pods(life).items() if name.startswith("job")} == before


def test_everything_but_the_crd_goes_and_jobs_stay_and_are_taken_up_again(
    life: Life, installed: Release, images: Images, simulated: None
) -> None:
    assert "created" in apply(life, "job")
    until(lambda: life.pods("Running") == {"job-a1-0", "job-a1-1"}, "both pods to run")
    before = _pods(life)
    installed.uninstall()
    kinds = "validatingwebhookconfigurations,clusterroles,clusterrolebindings"
    selector = ("-l", "app.kubernetes.io/instance=llmtrain", "-o", "name")
    left = life.cluster.kubectl("get", kinds, *selector)
    left += life.cluster.kubectl("get", "deployments,services,secrets,roles", "-n", NAMESPACE, *selector)
    assert left == "" and CRD in life.cluster.kubectl("get", "crd", "-o", "name")
    assert _pods(life) == before and "created" in apply(life, "meanwhile")
    installed.install(image=images.operator, trainerImage=images.trainer)
    until(lambda: "meanwhile-a1-0" in life.pods("Running"), "the job that was applied meanwhile")
    assert {name: uid for name, uid in _pods(life).items() if name.startswith("job")} == before


def _pods(life: Life) -> dict[str, str]:
    """Name -> uid."""
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in life.get("pods", "-l", "llmtrain.io/job")["items"]}


def _certificate(installed: Release) -> str:
    path = r"jsonpath={.data.tls\.crt}"
    return installed.cluster.kubectl("get", "secret", f"{NAME}-webhook-tls", "-n", NAMESPACE, "-o", path)
