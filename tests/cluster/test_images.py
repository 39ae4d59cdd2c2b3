"""The images that `make images` builds, as pods of a cluster run them: not root, nothing writable but what is mounted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.cluster.cluster import Cluster, Given
from tests.cluster.image import storage
from tests.cluster.image.build import Images
from tests.cluster.test_pods import RESTRICTED, finished

pytestmark = pytest.mark.cluster


def run(cluster: Given, namespace: str, name: str, image: str, command: list[str], node: str | None = None) -> tuple[str, str]:
    """The phase in which a pod of this image ended, and what it printed. Of the file system only /tmp can be written."""
    security = RESTRICTED | {"readOnlyRootFilesystem": True, "runAsUser": 1000}
    mounts = [{"name": "tmp", "mountPath": "/tmp"}]
    container: dict[str, Any] = {"name": "main", "image": image, "command": command, "securityContext": security, "volumeMounts": mounts}
    spec: dict[str, Any] = {"restartPolicy": "Never", "containers": [container], "volumes": [{"name": "tmp", "emptyDir": {}}]}
    spec |= {"automountServiceAccountToken": False} | ({"nodeName": node} if node else {})
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(pod))
    return finished(cluster, namespace, name)


@pytest.mark.parametrize("node", ["n0", "n1"])
def test_the_trainer_image_runs_on_each_node(own: Cluster, images: Images, namespace: str, node: str) -> None:
    ended, said = run(own, namespace, "torch", images.trainer, ["python", "-c", "import torch; print(torch.__version__)"], node)
    assert ended == "Succeeded" and said.startswith("2."), said
    ended, said = run(own, namespace, "help", images.trainer, ["python", "-m", "llmtrain_trainer", "--help"], node)
    assert ended == "Succeeded" and "run a node" in said, said


def test_what_deepspeed_takes_to_train_on_cpus_is_compiled_in_the_image(cluster: Given, images: Images, namespace: str) -> None:
    load = "from deepspeed.ops.op_builder.cpu import ShareMemCommBuilder as Builder; print(Builder().load().__file__)"
    ended, said = run(cluster, namespace, "operators", images.trainer, ["python", "-c", load])
    assert ended == "Succeeded" and "site-packages/deepspeed/ops/comm/" in said, said


def test_the_operator_image_runs_and_holds_of_the_trainer_its_contract_alone(cluster: Given, images: Images, namespace: str) -> None:
    ended, said = run(cluster, namespace, "help", images.operator, ["python", "-m", "llmtrain_operator", "--help"])
    assert ended == "Succeeded" and "--trainer-image" in said, said
    ended, said = run(cluster, namespace, "agent", images.operator, ["python", "-m", "llmtrain_trainer", "--help"])
    assert ended == "Failed" and "No module named llmtrain_trainer.__main__" in said, said


def test_nothing_that_the_building_machine_knows_of_its_network_is_in_a_layer(images: Images) -> None:
    made = storage.built()
    assert made is not None
    layers = list(storage.unpacked(made.dependencies).glob("*/snapshots/*/fs"))
    assert len(layers) > 1
    settings = ("etc/pip.conf", "etc/uv/uv.toml", "run/secrets/settings", "etc/apt/sources.list", "etc/hostname", "etc/resolv.conf")
    found = [layer / name for layer in layers for name in settings if (layer / name).is_file() and (layer / name).stat().st_size]
    assert not found, "where a build mounts a secret an empty file may stay, and nothing more"
