"""The operator with the chart's rights and no others: the API server's audit log says what it asked for, and what it was not allowed.

The operator is a process beside the cluster with a token of the chart's ServiceAccount, so that these tests need no image.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.cluster import Cluster
from tests.cluster.operators import Operator, end_all
from tests.cluster.release import CRD, NAME, NAMESPACE, Object, of_kind, rendered
from tests.cluster.test_operator_life import Life, foreign_pod, manifest
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": [f"system:serviceaccounts:{NAMESPACE}"]}, {"level": "None"}],
}
RIGHTS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
PLACED = manifest("", "")["spec"]["scheduling"]
GANG_APIS = (
    ("PodGroup", "scheduling.x-k8s.io", "v1alpha1"),
    ("PodGroup", "scheduling.volcano.sh", "v1beta1"),
    ("Workload", "kueue.x-k8s.io", "v1beta1"),
)

Right = tuple[str, str, str]
"""API group, resource with its subresource, verb."""


@dataclasses.dataclass(frozen=True)
class Audit:
    """What the operators of NAMESPACE asked for."""

    log: Path

    def entries(self) -> list[Object]:
        return [entry for line in self.log.read_text().splitlines() if "resource" in (entry := json.loads(line)).get("objectRef", {})]

    def used(self) -> set[Right]:
        """What was allowed. A patch that made its object was asked for the right to create as well."""
        allowed = [entry for entry in self.entries() if not _forbidden(entry)]
        made = {(*_resource(entry), "create") for entry in allowed if entry["responseStatus"]["code"] == 201}
        return {(*_resource(entry), entry["verb"]) for entry in allowed} | made

    def forbidden(self) -> set[Right]:
        return {(*_resource(entry), entry["verb"]) for entry in self.entries() if _forbidden(entry)}


def _forbidden(entry: Object) -> bool:
    """Also what admission refuses for want of a right; not what a namespace refuses because it goes away, with an earlier test."""
    answer = entry["responseStatus"]
    ends = "because it is being terminated" in answer.get("message", "")
    return bool(entry["annotations"]["authorization.k8s.io/decision"] == "forbid" or (answer["code"] == 403 and not ends))


def _resource(entry: Object) -> tuple[str, str]:
    asked = entry["objectRef"]
    return asked.get("apiGroup", ""), "/".join(filter(None, (asked["resource"], asked.get("subresource"))))


def granted(objects: list[Object]) -> set[Right]:
    """What the chart gives the operator."""
    roles = [role for role in of_kind(objects, "Role", "ClusterRole") if not role["metadata"]["name"].endswith(("-view", "-edit"))]
    rules = [rule for role in roles for rule in role["rules"]]
    return {(group, what, verb) for rule in rules for group in rule["apiGroups"] for what in rule["resources"] for verb in rule["verbs"]}


@pytest.fixture(scope="module")
def audit(cluster: Any) -> Iterator[Audit]:
    """The API server writes down what the operator asks; afterwards it runs as before."""
    if not isinstance(cluster, Cluster):
        pytest.skip("starts the API server anew with an audit log; the tests run against a given one")
    log, policy = cluster.site.root / "audit.log", cluster.site.root / "audit.yaml"
    policy.write_text(json.dumps(POLICY))
    _restart(cluster, f"--audit-policy-file={policy}", f"--audit-log-path={log}")
    cluster.add_simulated_nodes(4)
    yield Audit(log)
    _restart(cluster)


def _restart(cluster: Cluster, *flags: str) -> None:
    cluster.stop("kube-apiserver", signal.SIGKILL)
    cluster.start("kube-apiserver", *flags)
    until(lambda: cluster.kubectl("get", "--raw", "/readyz", check=False) == "ok", "the API server")


@pytest.fixture
def gang_apis(cluster: Cluster) -> Iterator[None]:
    """What admits gangs, with any content and nobody behind it."""
    made = [_definition(*api) for api in GANG_APIS]
    cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(made))
    names = [one["metadata"]["name"] for one in made]
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", *(f"crd/{name}" for name in names))
    yield
    cluster.kubectl("delete", "crd", *names)


def _definition(kind: str, group: str, version: str) -> Object:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    served = {"name": version, "served": True, "storage": True, "schema": schema}
    names = {"kind": kind, "plural": f"{kind.lower()}s", "singular": kind.lower(), "listKind": f"{kind}List"}
    spec = {"group": group, "names": names, "scope": "Namespaced", "versions": [served]}
    metadata = {"name": f"{kind.lower()}s.{group}", "annotations": {"api-approved.kubernetes.io": "unapproved, test only"}}
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": metadata, "spec": spec}


@pytest.fixture
def limited(audit: Audit, cluster: Cluster, tmp_path: Path) -> Iterator[Callable[[dict[str, Any]], Cluster]]:
    """Gives the cluster as the chart's ServiceAccount sees it, for some values; takes the rights away afterwards."""
    given: list[Object] = []

    def as_the_chart(values: dict[str, Any]) -> Cluster:
        objects = rendered(values)
        given.extend(of_kind(objects, *RIGHTS))
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        wanted = [namespace, *of_kind(objects, "CustomResourceDefinition"), *given]
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=yaml.safe_dump_all(wanted))
        cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", f"crd/{CRD}")
        path = tmp_path / "limited.kubeconfig"
        config = yaml.safe_load(cluster.kubeconfig.read_text())
        cluster.kubectl("delete", "lease", NAME, "-n", NAMESPACE, "--ignore-not-found")  # which a release left there: it is to be created
        token = cluster.kubectl("create", "token", NAME, "-n", NAMESPACE).strip()
        config["users"] = [{"name": one["name"], "user": {"token": token}} for one in config["users"]]
        path.write_text(yaml.safe_dump(config))
        audit.log.write_text("")
        return dataclasses.replace(cluster, kubeconfig=path)

    yield as_the_chart
    cluster.kubectl("delete", "-f", "-", "--ignore-not-found", "--wait=false", stdin=yaml.safe_dump_all(given))
    cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[Cluster, list[str]], Operator]]:
    """Starts operators with the chart's arguments; ends what still runs."""
    made: list[Operator] = []

    def begin(cluster: Cluster, watched: list[str]) -> Operator:
        log = tmp_path / f"operator-{len(made)}.log"
        made.append(Operator.start(cluster, log, NAMESPACE, watched=watched, more=["--lease-name", NAME]))
        return made[-1]

    yield begin
    end_all(made)


def test_the_operator_needs_every_right_of_the_chart_and_no_other(
    audit: Audit,
    limited: Callable[[dict[str, Any]], Cluster],
    start: Callable[[Cluster, list[str]], Operator],
    gang_apis: None,
    cluster: Cluster,
    namespace: str,
) -> None:
    life, account = Life(cluster, namespace), limited({})
    first = start(account, [])
    life.apply(scheduling=PLACED | {"gang": "none"})
    for gang in ("kueue", "volcano", "coscheduling"):
        life.apply(gang, scheduling=PLACED | {"gang": gang} | ({} if gang == "coscheduling" else {"queue": "team"}))
    life.apply("stuck", scheduling={"gang": "none"})  # on the real nodes, which find no such image: why is asked of events and nodes
    life.apply("short", scheduling=PLACED | {"gang": "none"}, ttlSecondsAfterFinished=0)
    until(lambda: {"job-a1-1", "kueue-a1-1", "volcano-a1-1", "coscheduling-a1-1", "short-a1-1"} <= life.pods(), "every gang")
    life.cluster.kubectl("annotate", "pods", "-n", namespace, "-l", "llmtrain.io/job=short", "llmtrain.io/completes-after-ms=10")
    until(lambda: "short" not in life.cluster.kubectl("get", "ltj", "-n", namespace, "-o", "name"), "the finished job to be deleted")
    take_what_is_in_the_way(life)
    suspend_and_resume(life)
    first.end()
    start(account, [])  # which knows nothing of what the first one posted
    suspend_and_resume(life)
    for gang in ("volcano", "coscheduling"):
        life.patch(gang, suspend=True)  # the groups of their attempts go
    wanted = granted(rendered())
    with contextlib.suppress(AssertionError):  # the next line says what is amiss
        until(lambda: wanted <= audit.used(), "every right to be used")
    assert audit.used() == wanted and audit.forbidden() == set()


def test_with_named_namespaces_roles_are_enough(
    audit: Audit,
    limited: Callable[[dict[str, Any]], Cluster],
    start: Callable[[Cluster, list[str]], Operator],
    cluster: Cluster,
    namespace: str,
) -> None:
    life, values = Life(cluster, namespace), {"namespaces": [namespace]}
    start(limited(values), [namespace])
    life.apply()
    until(lambda: life.pods("Running") == {"job-a1-0", "job-a1-1"}, "both pods to run")
    suspend_and_resume(life)
    assert audit.forbidden() <= {("", "nodes", "get")}
    assert audit.used() < granted(rendered(values))


def take_what_is_in_the_way(life: Life) -> None:
    """Objects that earlier jobs left behind, of each kind, and a pod of somebody else."""
    life.cluster.kubectl("create", "-f", "-", stdin=json.dumps(foreign_pod(life.namespace, "taken-a1-0", {})))
    life.apply("taken", scheduling=PLACED | {"gang": "none"})
    until(lambda: "Pod taken-a1-0 of namespace" in str(life.status("taken").get("message")), "the name to be told")
    for gang in ("volcano", "coscheduling"):
        old = life.get("ltj", gang)["metadata"]["uid"]
        life.cluster.kubectl("delete", "ltj", gang, "-n", life.namespace, "--cascade=orphan")
        life.apply(gang, scheduling=PLACED | {"gang": gang} | ({} if gang == "coscheduling" else {"queue": "team"}))
        wanted = f"llmtrain.io/job={gang},llmtrain.io/job-uid!={old}"
        until(lambda wanted=wanted: len(life.get("pods", "-l", wanted)["items"]) == 2, f"the new pods of {gang}")
        assert not life.get("services,configmaps,networkpolicies,podgroups.scheduling.volcano.sh", "-l", f"llmtrain.io/job-uid={old}")[
            "items"
        ]


def suspend_and_resume(life: Life) -> None:
    life.patch(suspend=True)
    until(lambda: life.phase() == "Suspended", "the job to be suspended")
    life.patch(suspend=False)
    until(lambda: bool(life.pods("Running")), "the job to run again")
