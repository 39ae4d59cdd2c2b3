"""The commands on the real API server: what it takes and refuses, a job's life on simulated nodes, and ways to log in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.cluster import ON_SIMULATED, Cluster
from tests.cluster.operators import Operator
from tests.cluster.waiting import until

from llmtrain_operator.cli.app import invoke

pytestmark = pytest.mark.cluster

MANIFEST: dict[str, Any] = {
    "apiVersion": "llmtrain.io/v1alpha1",
    "kind": "LLMTrainJob",
    "metadata": {"name": "demo", "labels": {"team": "a"}},
    "spec": {
        "model": {
            "config": {
                "model_type": "llama",
                "hidden_size": 64,
                "intermediate_size": 172,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "vocab_size": 512,
                "max_position_embeddings": 64,
            }
        },
        "tokenizer": {"train": {"algorithm": "bpe", "vocabSize": 512}},
        "dataset": [{"source": "s3://data/text.jsonl"}],
        "training": {"globalBatchSize": 8, "sequenceLength": 64, "maxSteps": 100, "precision": "fp32"},
        "resources": {"nodes": 2, "procsPerNode": 2},
        "scheduling": ON_SIMULATED,
    },
}


@dataclass(frozen=True)
class Said:
    """What a command left behind."""

    code: int
    out: str
    err: str


Run = Callable[..., Said]


@pytest.fixture(scope="module")
def simulated(cluster: Any) -> Cluster:
    """The cluster, with nodes that only pretend, and the CRD."""
    if not isinstance(cluster, Cluster):
        pytest.skip("needs kwok's nodes, which only the cluster that these tests start themselves has")
    cluster.add_simulated_nodes(2)
    cluster.define_jobs()
    return cluster


@pytest.fixture
def llmtrain(simulated: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in the test's namespace, as the administrator or with another kubeconfig."""

    def run(*arguments: str, kubeconfig: Path = simulated.kubeconfig) -> Said:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        code = invoke([*arguments, "-n", namespace])
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return run


@pytest.fixture
def operator(simulated: Cluster, namespace: str, tmp_path: Path) -> Iterator[Operator]:
    """An operator of the test's namespace."""
    started = Operator.start(simulated, tmp_path / "operator.log", namespace, watched=[namespace])
    yield started
    started.end()
    print(started.log.read_text())


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[..., str]:
    """Writes a manifest."""

    def write(**spec: Any) -> str:
        path = tmp_path / "job.yaml"
        path.write_text(yaml.safe_dump({**MANIFEST, "spec": {**MANIFEST["spec"], **spec}}))
        return str(path)

    return write


def test_a_manifest_is_judged_kept_and_changed_by_the_server(llmtrain: Run, manifest: Callable[..., str]) -> None:
    assert llmtrain("submit", "-f", manifest(), "--dry-run", "server").code == 0
    assert llmtrain("get").out.startswith("There are no jobs in namespace")
    first, same = llmtrain("submit", "-f", manifest()), llmtrain("submit", "-f", manifest())
    assert first.code == same.code == 0, first.err
    assert " is submitted to namespace " in first.out and " is unchanged." in same.out
    assert " is changed." in llmtrain("submit", "-f", manifest(suspend=True)).out
    head, line = llmtrain("get", "-l", "team=a").out.splitlines()
    assert head.split()[:3] == ["NAME", "PHASE", "STEP"] and line.split()[:2] == ["demo", "Unseen"]
    kept = yaml.safe_load(llmtrain("get", "demo", "-o", "yaml").out)
    assert kept["spec"]["suspend"] is True and kept["metadata"]["labels"] == {"team": "a"}
    assert llmtrain("get", "demmo").err.endswith("Did you mean demo?\n")


def test_what_the_server_refuses_is_one_sentence_that_names_the_field(llmtrain: Run, manifest: Callable[..., str], tmp_path: Path) -> None:
    assert llmtrain("submit", "-f", manifest()).code == 0
    changed = llmtrain("submit", "-f", manifest(), "--set", "spec.task=sft")
    assert changed.code == 2 and changed.err.startswith("The cluster refuses the request: ") and "spec" in changed.err
    assert changed.err.count("\n") == 1


def test_a_person_without_rights_is_told_which_are_missing(simulated: Cluster, llmtrain: Run, tmp_path: Path) -> None:
    config = yaml.safe_load(simulated.kubeconfig.read_text())
    config["users"][0]["user"]["as"] = "ann"
    (tmp_path / "ann").write_text(yaml.safe_dump(config))
    said = llmtrain("get", kubeconfig=tmp_path / "ann")
    assert said.code == 2 and said.err.startswith("You are not allowed to do this: ")
    assert 'User "ann" cannot list resource "llmtrainjobs"' in said.err


def test_a_program_that_gives_tokens_logs_in(simulated: Cluster, namespace: str, llmtrain: Run, tmp_path: Path) -> None:
    simulated.kubectl("create", "serviceaccount", "-n", namespace, "bot")
    simulated.kubectl("create", "clusterrolebinding", namespace, "--clusterrole=cluster-admin", f"--serviceaccount={namespace}:bot")
    token = simulated.kubectl("create", "token", "-n", namespace, "bot")
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": token.strip()}}
    config = yaml.safe_load(simulated.kubeconfig.read_text())
    command = {"apiVersion": answer["apiVersion"], "command": "echo", "args": [json.dumps(answer)], "interactiveMode": "Never"}
    config["users"][0]["user"] = {"exec": command}
    (tmp_path / "bot").write_text(yaml.safe_dump(config))
    try:
        said = llmtrain("get", kubeconfig=tmp_path / "bot")
    finally:
        simulated.kubectl("delete", "clusterrolebinding", namespace)
    assert said.code == 0 and said.out.startswith("There are no jobs"), said.err


def test_kubectl_finds_it_as_a_plugin(simulated: Cluster, namespace: str) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = [simulated.kubectl_path, "llmtrain", "get", "-n", namespace]
    environment = {**os.environ, "PATH": path, "KUBECONFIG": str(simulated.kubeconfig)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.startswith(f"There are no jobs in namespace {namespace}."), done.stderr


def test_a_job_is_steered_through_its_life(
    simulated: Cluster, namespace: str, operator: Operator, llmtrain: Run, manifest: Callable[..., str]
) -> None:
    def pods() -> set[str]:
        names = simulated.kubectl("get", "pods", "-n", namespace, "--field-selector=status.phase=Running", "-o", "name").split()
        return {name.removeprefix("pod/") for name in names}

    assert llmtrain("submit", "-f", manifest()).code == 0
    until(lambda: pods() == {"demo-a1-0", "demo-a1-1"}, "both pods to run")
    until(lambda: "AgentNotHeard" in llmtrain("why", "demo").out, "the agents to be missed")
    assert llmtrain("why", "demo").out.startswith("demo is Starting: The pods are running, but the agent of node 0 has not answered yet.")
    suspended = llmtrain("suspend", "demo", "--wait", "--timeout", "60")
    assert (suspended.code, suspended.out) == (0, "demo is suspended; no checkpoint is saved.\n"), suspended.err
    assert llmtrain("logs", "demo").err.startswith("demo has no pods: Suspended; nothing runs.")
    assert llmtrain("resume", "demo").code == 0
    until(lambda: pods() == {"demo-a2-0", "demo-a2-1"}, "the next attempt")
    simulated.kubectl("annotate", "pods", "-n", namespace, "-l", "llmtrain.io/job=demo", "llmtrain.io/completes-after-ms=10")
    watched = llmtrain("watch", "demo", "--timeout", "60")
    assert watched.code == 0 and "Complete (attempt 2): Training is complete." in watched.out, watched.out
    assert llmtrain("submit", "-f", manifest()).err.startswith("demo is already Complete, and that is final.")
    deleted = llmtrain("delete", "demo", "--wait", "--timeout", "60")
    assert (deleted.code, deleted.out) == (0, "demo is deleted. It had no checkpoint destination, so nothing of it remains.\n")
    assert pods() == set()


def test_a_person_who_may_read_jobs_and_pods_alone_still_learns_why(
    simulated: Cluster, namespace: str, llmtrain: Run, manifest: Callable[..., str], tmp_path: Path
) -> None:
    assert llmtrain("submit", "-f", manifest()).code == 0
    rights = ["--verb=get,list", "--resource=llmtrainjobs.llmtrain.io,pods"]
    simulated.kubectl("create", "role", "-n", namespace, "reader", *rights)
    simulated.kubectl("create", "rolebinding", "-n", namespace, "reader", "--role=reader", "--user=ann")
    config = yaml.safe_load(simulated.kubeconfig.read_text())
    config["users"][0]["user"]["as"] = "ann"
    (tmp_path / "ann").write_text(yaml.safe_dump(config))
    said = llmtrain("why", "demo", kubeconfig=tmp_path / "ann")
    assert said.code == 0 and said.out.startswith("demo is Pending: The operator has not processed the job yet."), said.err
