"""The commands on a cluster: what they send, what they print, and one sentence where something is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.operator.cli.small_spec import SPEC

from llmtrain_operator.cli.on_cluster import listing

JOB = "/apis/llmtrain.io/v1alpha1/namespaces/team/llmtrainjobs/demo"
MANIFEST: dict[str, Any] = {
    "apiVersion": "llmtrain.io/v1alpha1",
    "kind": "LLMTrainJob",
    "metadata": {"name": "demo"},
    "spec": SPEC,
}
Run = Callable[..., Any]


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[..., str]:
    def write(**spec: Any) -> str:
        path = tmp_path / "job.yaml"
        path.write_text(yaml.safe_dump({**MANIFEST, "spec": {**MANIFEST["spec"], **spec}}))
        return str(path)

    return write


# ---- submit ----------------------------------------------------------------------------------------------------------------


def test_submit_plans_then_applies_the_manifest_as_it_was_written(api: Any, llmtrain: Run, manifest: Callable[..., str]) -> None:
    said = llmtrain("submit", "-f", manifest())
    (sent,) = api.sent("PATCH")
    assert said.code == 0 and sent.path == JOB and sent.body["spec"] == MANIFEST["spec"]
    assert sent.query == {"fieldManager": "llmtrain-cli", "force": "true", "fieldValidation": "Strict"}
    assert sent.headers["Authorization"] == "Bearer secret"
    assert said.out.splitlines()[0].startswith("demo: dp2 with native on 1 node, 2 CPU processes; ")
    assert said.out.splitlines()[1:] == ["demo is submitted to namespace team.", "Next: llmtrain watch demo"]


def test_a_dry_run_of_the_client_sends_nothing_and_one_of_the_server_keeps_nothing(
    api: Any, llmtrain: Run, manifest: Callable[..., str]
) -> None:
    assert llmtrain("submit", "-f", manifest(), "--dry-run", "client").code == 0 and not api.requests
    said = llmtrain("submit", "-f", manifest(), "--dry-run", "server")
    assert api.sent("PATCH")[0].query["dryRun"] == "All" and said.out.endswith("demo would be submitted to namespace team.\n")


def test_what_admission_warns_of_is_told(api: Any, llmtrain: Run, manifest: Callable[..., str]) -> None:
    api.headers["Warning"] = '299 - "spec.training: a \\"small\\" batch"'
    assert 'warning: spec.training: a "small" batch' in llmtrain("submit", "-f", manifest()).err


def test_a_manifest_that_cannot_be_planned_is_not_sent_unless_forced(api: Any, llmtrain: Run, manifest: Callable[..., str]) -> None:
    said = llmtrain("submit", "-f", manifest(parallelism={"tensor": 3}))
    assert said.code == 2 and "spec.parallelism.tensor is 3" in said.err and not api.requests
    assert llmtrain("submit", "-f", manifest(parallelism={"tensor": 3}), "--force").code == 0 and api.sent("PATCH")


def test_a_job_that_does_not_fit_is_not_sent_and_the_exit_code_is_3(api: Any, llmtrain: Run, manifest: Callable[..., str]) -> None:
    huge = {**MANIFEST["spec"]["model"]["config"], "hidden_size": 16384, "num_hidden_layers": 126, "intermediate_size": 53248}
    resources = {"nodes": 1, "gpusPerNode": 1, "gpu": "H100-80GB"}
    said = llmtrain("submit", "-f", manifest(model={"config": huge}, resources=resources))
    assert said.code == 3 and said.err.startswith("demo does not fit: ") and not api.requests


def test_a_file_beside_the_manifest_cannot_be_submitted(api: Any, llmtrain: Run, manifest: Callable[..., str]) -> None:
    local = {"dataset": [{"source": "file://./text.jsonl"}], "checkpoint": {"destination": "file://./checkpoints"}}
    said = llmtrain("submit", "-f", manifest(**local))
    assert said.code == 2 and not api.requests
    assert (
        "spec.dataset[0].source is file://./text.jsonl, a path on this machine that no pod can reach. Use a location on s3://, hf://"
        in said.err
    )
    assert (
        "spec.checkpoint.destination is file://./checkpoints, a path on this machine that no pod can reach. Use a location on s3:// or"
        in said.err
    )


def test_a_job_that_has_ended_is_not_submitted_over(api: Any, llmtrain: Run, manifest: Callable[..., str]) -> None:
    api.add("demo", status={"phase": "Complete"})
    said = llmtrain("submit", "-f", manifest())
    assert said.code == 2 and said.err.startswith("demo is already Complete, and that is final.") and not api.sent("PATCH")


def test_a_namespace_that_contradicts_the_manifest_is_refused(api: Any, llmtrain: Run, manifest: Callable[..., str]) -> None:
    said = llmtrain("submit", "-f", manifest(), "--set", "metadata.namespace=a", "-n", "b")
    assert said.code == 2 and said.err == "metadata.namespace is a and -n is b: leave one of them out.\n"


# ---- get -------------------------------------------------------------------------------------------------------------------


def test_get_prints_the_jobs_of_the_namespace_and_one_as_the_server_has_it(api: Any, llmtrain: Run) -> None:
    api.add("demo", status={"phase": "Running"})
    api.objects[JOB]["metadata"]["managedFields"] = [{}]
    assert llmtrain("get").out.splitlines()[1].split()[:2] == ["demo", "Running"]
    assert json.loads(llmtrain("get", "demo", "-o", "json").out)["status"] == {"phase": "Running"}
    assert "managedFields" not in llmtrain("get", "demo", "-o", "yaml").out
    assert llmtrain("get", "-o", "name").out == "llmtrainjob.llmtrain.io/demo\n"
    llmtrain("get", "-l", "team=a")
    assert api.requests[-1].query["labelSelector"] == "team=a"


def test_all_namespaces_are_asked_for_at_once(api: Any, llmtrain: Run) -> None:
    api.objects["/apis/llmtrain.io/v1alpha1/llmtrainjobs"] = {"items": []}
    assert llmtrain("get", "-A").out == "There are no jobs in this cluster. Next: llmtrain submit -f job.yaml\n"


# ---- steering --------------------------------------------------------------------------------------------------------------


def test_suspend_and_resume_change_one_field(api: Any, llmtrain: Run) -> None:
    api.add("demo", status={"checkpoint": {"step": 40}})
    assert llmtrain("suspend", "demo").out == "demo saves a checkpoint and stops. `llmtrain resume demo` resumes it from there.\n"
    assert llmtrain("resume", "demo").out == "demo resumes from step 40.\n"
    assert [sent.body for sent in api.sent("PATCH")] == [{"spec": {"suspend": True}}, {"spec": {"suspend": False}}]


def test_what_is_so_already_is_said_and_not_asked_for_again(api: Any, llmtrain: Run) -> None:
    api.add("demo", status={"phase": "Suspended", "observedGeneration": 1}, spec={"suspend": True})
    assert llmtrain("suspend", "demo").out == "demo is already suspended. `llmtrain resume demo` resumes it from there.\n"
    api.add("other", status={"phase": "Running"})
    assert llmtrain("resume", "other").out == "other is not suspended: it is Running.\n"
    assert not api.sent("PATCH")


def test_what_is_proposed_next_reaches_the_namespace_that_was_asked_for(api: Any, llmtrain: Run) -> None:
    api.add("demo")
    assert "`llmtrain resume demo -n team`" in llmtrain("suspend", "demo", "-n", "team").out
    assert "`llmtrain why demo -n team`" in llmtrain("logs", "demo", "-n", "team").err


def test_suspend_waits_for_what_the_operator_says_of_this_very_manifest(api: Any, llmtrain: Run) -> None:
    job = api.add("demo", status={"phase": "Suspended", "observedGeneration": 1, "checkpoint": {"step": 40}})
    job["metadata"]["generation"] = 2
    said = llmtrain("suspend", "demo", "--wait", "--timeout", "0.1")
    assert said.code == 5 and said.err.startswith("demo is not suspended yet")
    api.objects[JOB]["status"]["observedGeneration"] = 2
    assert llmtrain("suspend", "demo", "--wait").out == "demo is suspended; step 40 is saved.\n"


def test_a_job_that_has_ended_cannot_be_suspended(api: Any, llmtrain: Run) -> None:
    api.add("demo", status={"phase": "Failed"})
    said = llmtrain("suspend", "demo")
    assert (said.code, said.err) == (2, "demo is Failed, and that is final: it cannot be suspended.\n")


def test_delete_says_what_remains(api: Any, llmtrain: Run) -> None:
    api.add("demo", spec={"checkpoint": {"destination": "s3://bucket/demo"}}, status={"checkpoint": {"step": 40}})
    said = llmtrain("delete", "demo", "--wait")
    assert api.sent("DELETE")[0].body["preconditions"] == {"uid": "uid-demo"}
    assert said.out == (
        "demo is deleted. Its checkpoints, the newest of step 40, are kept at s3://bucket/demo: "
        "llmtrain checkpoints list --destination s3://bucket/demo\n"
    )
    api.add("more", spec={"checkpoint": {"destination": "s3://bucket/more"}}, status={"checkpoint": {"step": 40}, "phase": "Running"})
    assert llmtrain("delete", "more").out.startswith(
        "more is deleted. Its checkpoints are kept at s3://bucket/more: "
    )  # it saves once more


# ---- what is wrong, in one sentence ----------------------------------------------------------------------------------------


def test_a_job_that_is_not_there_is_told_with_the_nearest_name(api: Any, llmtrain: Run) -> None:
    api.add("demo")
    said = llmtrain("suspend", "dmo")
    assert (said.code, said.err) == (2, "There is no job dmo in namespace team. Did you mean demo?\n")


def test_a_cluster_without_the_kind_is_told_how_to_install_it(api: Any, llmtrain: Run) -> None:
    api.rule = lambda _: (404, b"404 page not found\n")
    said = llmtrain("get")
    assert said.code == 2 and "does not know LLMTrainJob" in said.err and "helm install llmtrain" in said.err


def test_a_refusal_of_the_server_is_one_sentence(api: Any, llmtrain: Run) -> None:
    message = 'llmtrainjobs.llmtrain.io is forbidden: User "ann" cannot list resource "llmtrainjobs"'
    api.rule = lambda _: (403, {"reason": "Forbidden", "message": message})
    said = llmtrain("get")
    assert (said.code, said.err) == (
        2,
        f"You are not allowed to do this: {message}. Ask for a role that allows it, or choose another namespace with -n.\n",
    )


def test_what_admission_refuses_is_told_without_its_wrapping(api: Any, llmtrain: Run, manifest: Callable[..., str]) -> None:
    message = 'admission webhook "jobs.llmtrain.io" denied the request: spec.parallelism.tensor is 3: it must divide 4. Use 2.'
    api.rule = lambda request: (422, {"reason": "Invalid", "message": message}) if request.method == "PATCH" else None
    assert (
        llmtrain("submit", "-f", manifest()).err
        == "The cluster refuses the request: spec.parallelism.tensor is 3: it must divide 4. Use 2.\n"
    )


def test_a_cluster_that_does_not_answer_ends_with_code_4(api: Any, llmtrain: Run, tmp_path: Path) -> None:
    config = yaml.safe_load((tmp_path / "kubeconfig").read_text())
    config["clusters"][0]["cluster"]["server"] = "http://127.0.0.1:1"
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    said = llmtrain("get")
    assert said.code == 4 and said.err.startswith("No cluster answers at context here at http://127.0.0.1:1: ")


def test_a_watched_list_prints_a_job_anew_when_it_changed(api: Any, llmtrain: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "SECONDS_BETWEEN_LOOKS", 0.0)
    demo, other = api.add("demo", status={"phase": "Starting"}), api.add("other", status={"phase": "Running"})
    changed = {**demo, "metadata": {**demo["metadata"], "resourceVersion": "2"}, "status": {"phase": "Running"}}
    looks = iter([[demo, other], [demo, other], [changed, other]])

    def rule(_: Any) -> tuple[int, Any]:
        items = next(looks, None)
        return (403, {"message": "enough"}) if items is None else (200, {"items": items})

    api.rule = rule
    lines = llmtrain("get", "-w").out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["demo", "Starting"], ["other", "Running"], ["demo", "Running"]]


def test_render_prints_an_attempt_as_it_would_be_applied(llmtrain: Run, manifest: Callable[..., str]) -> None:
    said = llmtrain("render", "-f", manifest(resources={"nodes": 2, "procsPerNode": 1}), "--attempt", "3", "--image", "registry/trainer:1")
    objects = list(yaml.safe_load_all(said.out))
    assert [(one["kind"], one["metadata"]["name"]) for one in objects] == [
        ("Service", "ltj-demo"),
        ("NetworkPolicy", "ltj-demo"),
        ("ConfigMap", "demo-a3"),
        ("Pod", "demo-a3-0"),
        ("Pod", "demo-a3-1"),
    ]
    assert objects[-1]["spec"]["containers"][0]["image"] == "registry/trainer:1"
    assert not any("ownerReferences" in one["metadata"] for one in objects)
