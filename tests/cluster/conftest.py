"""The cluster of these tests: started here, or the one that KUBECONFIG and LLMTRAIN_REGISTRY name. Every test gets a namespace of its own.

A registry that is given must take pushes over plain HTTP without a login, as the local ones of kind and minikube do.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY))  # the package tests.cluster is also a command: `python -m tests.cluster`

from tests.cluster import binaries, components, release  # noqa: E402
from tests.cluster.cluster import Cluster, Given, free_index  # noqa: E402
from tests.cluster.image import build  # noqa: E402

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Given]:
    """A Kubernetes with two nodes and a registry that holds the probe image."""
    if os.environ.get("KUBECONFIG") and os.environ.get("LLMTRAIN_REGISTRY"):
        yield _given()
        return
    if absent := binaries.missing():  # the first build takes longer than a test may
        pytest.skip(f"{', '.join(absent)} not built yet: `python -m tests.cluster build` does it once, about 15 minutes on 2 cores")
    try:
        started = Cluster.up(free_index())
    except binaries.CannotRunError as error:
        pytest.skip(str(error))
    yield started
    started.down()


@pytest.fixture(scope="session")
def images(cluster: Given) -> build.Images:
    """The images of the tree as it stands, in the cluster's registry."""
    if build.takes_minutes():  # longer than a test may
        pytest.skip("the images are not built yet for the pins of the tree: `make images` does it once, in some minutes")
    try:
        made = build.ensure()
    except binaries.CannotRunError as error:
        pytest.skip(str(error))
    if isinstance(cluster, Cluster):  # its registry serves what was built
        return build.Images(operator=f"{cluster.registry}/{made.operator}", trainer=f"{cluster.registry}/{made.trainer}")
    return build.Images(operator=build.push(cluster.registry, made.operator), trainer=build.push(cluster.registry, made.trainer))


@pytest.fixture(scope="module")
def installed(cluster: Given, images: build.Images) -> Iterator[release.Release]:
    """The chart installed by helm: two replicas that watch every namespace, and the webhook. Gone after the module."""
    made = release.Release(cluster)
    made.install(image=images.operator, trainerImage=images.trainer)
    yield made
    print(made.logs())
    made.uninstall()


@pytest.fixture
def own(cluster: Given) -> Cluster:
    """The cluster, where it is ours: its components may be stopped and its nodes looked into."""
    if not isinstance(cluster, Cluster):
        pytest.skip("looks into the nodes, which only works on the cluster that these tests start themselves")
    return cluster


@pytest.fixture
def namespace(cluster: Given) -> Iterator[str]:
    """A namespace that admits only pods of the restricted Pod Security Standard; deleted after the test."""
    name = f"llmtrain-test-{os.getpid()}-{next(_NUMBERS)}"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def told(own: Cluster, namespace: str) -> Iterator[None]:
    """Shows after a failure what happened in the namespace."""
    yield
    print(own.kubectl("get", "events", "-n", namespace, check=False))
    print(own.kubectl("logs", "-n", namespace, "-l", "llmtrain.io/job", "--tail=60", "--prefix", check=False))


def _given() -> Given:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("KUBECONFIG is set and kubectl is not on PATH")
    given = Given(Path(os.environ["KUBECONFIG"]), os.environ["LLMTRAIN_REGISTRY"], kubectl)
    try:
        binaries.ensure("probe")
    except binaries.CannotRunError as error:
        pytest.skip(str(error))
    given.push(components.PROBE, "1", {"/probe": binaries.program("probe")}, ["/probe"])
    return given
