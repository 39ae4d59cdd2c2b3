"""The real API server judges the CRD: it takes the schema, good manifests and allowed changes, and refuses the others by itself."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.cluster import Given

from llmtrain_operator.cli.manifest import with_absolute_paths

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
CRD = ROOT / "crds" / "llmtrain.io_llmtrainjobs.yaml"
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
MANIFESTS = sorted((ROOT / "tests" / "operator" / "bad").glob("*.yaml"))
BAD = [path for path in MANIFESTS if not path.name.startswith("plan-")]
PLAN_LEVEL = [path for path in MANIFESTS if path.name.startswith("plan-")]

RESOURCE = "llmtrainjobs.llmtrain.io"


@pytest.fixture(scope="module")
def definition(cluster: Given) -> dict[str, Any]:
    """The CRD as the server has it, established."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRD))
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", f"crd/{RESOURCE}")
    found: dict[str, Any] = json.loads(cluster.kubectl("get", "crd", RESOURCE, "-o", "json"))
    return found


@pytest.fixture(scope="module")
def server(cluster: Given, definition: dict[str, Any]) -> Iterator[str]:
    """The API server's address without its certificates: `kubectl proxy`."""
    command = [cluster.kubectl_path, f"--kubeconfig={cluster.kubeconfig}", "proxy", "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as proxy:
        assert proxy.stdout is not None
        found = re.search(r"127\.0\.0\.1:\d+", proxy.stdout.readline())
        assert found is not None
        yield f"http://{found.group()}"
        proxy.terminate()


def send(
    server: str, namespace: str, manifest: str, *, method: str = "POST", name: str = "", query: str = ""
) -> tuple[int, dict[str, Any]]:
    """The status code and the answer when a manifest is created, unknown fields refused. It goes as YAML: the server reads it itself."""
    path = f"/apis/llmtrain.io/v1alpha1/namespaces/{namespace}/llmtrainjobs?fieldValidation=Strict{query}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(server + path, data=manifest.encode(), headers={"Content-Type": "application/yaml"})
    try:
        with opener.open(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def job(**spec: Any) -> dict[str, Any]:
    """A small job that is fine."""
    training = {"globalBatchSize": 8, "sequenceLength": 128, "maxSteps": 100}
    good = {"model": {"source": "hf://acme/tiny"}, "dataset": [{"source": "file:///data/books.txt"}], "training": training}
    return {"apiVersion": "llmtrain.io/v1alpha1", "kind": "LLMTrainJob", "metadata": {"name": "job"}, "spec": good | spec}


def test_the_schema_is_structural_and_established(definition: dict[str, Any]) -> None:
    conditions = {one["type"]: (one["status"], one.get("message")) for one in definition["status"]["conditions"]}
    assert "NonStructuralSchema" not in conditions, conditions["NonStructuralSchema"]
    assert conditions["Established"][0] == "True"
    assert conditions["NamesAccepted"][0] == "True"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_accepted(server: str, namespace: str, example: Path) -> None:
    manifest = with_absolute_paths(yaml.safe_load(example.read_text()), example.parent)
    code, answer = send(server, namespace, yaml.safe_dump(manifest))
    assert code == 201, answer["message"]


@pytest.mark.parametrize("manifest", BAD, ids=lambda path: path.stem)
def test_a_bad_manifest_is_refused_by_the_server_alone(server: str, manifest: Path) -> None:
    code, answer = send(server, "default", manifest.read_text(), query="&dryRun=All")
    assert 400 <= code < 500, f"accepted: {answer.get('spec')}"


@pytest.mark.parametrize("manifest", PLAN_LEVEL, ids=lambda path: path.stem)
def test_a_manifest_that_only_the_plan_can_refuse_is_accepted(server: str, manifest: Path) -> None:
    code, answer = send(server, "default", manifest.read_text(), query="&dryRun=All")
    assert code == 201, answer["message"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"training": {"globalBatchSize": 16, "sequenceLength": 128, "maxSteps": 100}}, "training"),
        ({"model": {"source": "hf://acme/other"}}, "model"),
        ({"dataset": [{"source": "file:///data/other.txt"}]}, "dataset"),
        ({"tokenizer": {"source": "hf://acme/other"}}, "tokenizer"),
        ({"resources": {"nodes": 2}}, "resources"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_being_trained_cannot_be_changed(server: str, namespace: str, change: dict[str, Any], field: str) -> None:
    assert send(server, namespace, json.dumps(job()))[0] == 201
    code, answer = patch(server, namespace, {"spec": change})
    assert code == 422 and field in answer["message"], answer


@pytest.mark.parametrize("change", [{"suspend": True}, {"ttlSecondsAfterFinished": 60}, {"resilience": {"restarts": {"max": 3}}}], ids=str)
def test_how_a_job_is_run_can_be_changed(server: str, namespace: str, change: dict[str, Any]) -> None:
    assert send(server, namespace, json.dumps(job()))[0] == 201
    code, answer = patch(server, namespace, {"spec": change})
    assert code == 200, answer["message"]


def test_a_suspended_job_may_get_other_nodes(server: str, namespace: str) -> None:
    assert send(server, namespace, json.dumps(job(suspend=True)))[0] == 201
    assert patch(server, namespace, {"spec": {"resources": {"nodes": 2}}})[0] == 200


def test_status_is_written_apart_and_shown_in_columns(cluster: Given, server: str, namespace: str) -> None:
    assert send(server, namespace, json.dumps(job()))[0] == 201
    status = {"phase": "Running", "progress": {"step": 7, "targetSteps": 100, "loss": 2.5, "percent": 7}}
    assert patch(server, namespace, {"status": status, "spec": {"suspend": True}}, subresource="/status")[0] == 200
    header, row = cluster.kubectl("get", "ltj", "-n", namespace).splitlines()
    titles = ["NAME", "PHASE", "STEP", "TOTAL", "%", "LOSS", "TOK/S/GPU", "MFU", "GOODPUT", "RESTARTS", "LAST-CKPT", "ETA", "AGE"]
    assert header.split() == titles
    assert row.split()[:6] == ["job", "Running", "7", "100", "7", "2.5"]
    wide = cluster.kubectl("get", "ml", "-n", namespace, "-o", "wide").splitlines()[0].split()
    assert wide[-4:] == ["QUEUE", "NODES", "GPUS", "MODEL"]
    suspended = cluster.kubectl("get", "ltj", "-n", namespace, "job", "-o", "jsonpath={.spec.suspend}")
    assert suspended == "false", "a write of the status changed the spec"


def test_defaults_are_filled_in_by_the_server(server: str, namespace: str) -> None:
    _, made = send(server, namespace, json.dumps(job()))
    assert made["spec"]["suspend"] is False
    assert made["spec"]["resources"]["nodes"] == 1
    assert made["spec"]["dataset"][0]["weight"] == 1


def test_explain_prints_what_a_field_means(cluster: Given, definition: dict[str, Any]) -> None:
    described = _property(definition, "spec", "training", "microBatchSize")["description"]
    said = cluster.kubectl("explain", "llmtrainjob.spec.training.microBatchSize")
    assert " ".join(described.split()) in " ".join(said.split())


def patch(server: str, namespace: str, change: dict[str, Any], subresource: str = "") -> tuple[int, dict[str, Any]]:
    """The answer to a merge patch of the job."""
    path = f"/apis/llmtrain.io/v1alpha1/namespaces/{namespace}/llmtrainjobs/job{subresource}?fieldValidation=Strict"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    headers = {"Content-Type": "application/merge-patch+json"}
    try:
        with opener.open(urllib.request.Request(server + path, json.dumps(change).encode(), headers, method="PATCH"), timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def _property(definition: dict[str, Any], *path: str) -> dict[str, Any]:
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for name in path:
        schema = schema["properties"][name]
    return dict(schema)
