"""What the chart installs for which values: least rights, restricted pods, and refusals of values that do not exist."""

from __future__ import annotations

import base64
import ssl
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from tests.cluster.release import CHART, Object, helm, of_kind, rendered

from llmtrain_operator.manifest.parse import parse_manifest
from llmtrain_operator.plan.model.families import shape_of
from llmtrain_operator.plan.plan import plan

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
FULL: dict[str, Any] = {
    "image": "registry.example/operator@sha256:" + "0" * 64,
    "trainerImage": "registry.example/trainer:1",
    "imagePullSecrets": [{"name": "pull"}],
    "trainerEnvironment": {"HF_ENDPOINT": "https://hub.example", "LEVEL": 3, "NCCL_BUFFSIZE": 8388608},
    "metrics": {
        "namespaces": ["monitoring"],
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}, "interval": "15s"},
        "podMonitor": {"enabled": True},
        "rules": {"enabled": True},
        "dashboards": {"enabled": True, "folder": "LLM training", "grafanaOperator": {"enabled": True}},
    },
    "webhook": {"certificates": {"mode": "certManager"}},
    "priorityClassName": "system-cluster-critical",
    "extraEnv": [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}}],
    "nodeSelector": {"pool": "system"},
    "tolerations": [{"key": "system", "operator": "Exists"}],
    "podLabels": {"team": "ml"},
    "podAnnotations": {"note": "x"},
    "serviceAccount": {"annotations": {"role": "reader"}},
}


def one(objects: list[Object], kind: str, name: str = "llmtrain") -> Object:
    return next(found for found in objects if found["kind"] == kind and found["metadata"]["name"] == name)


def rules(objects: list[Object]) -> list[Object]:
    """Of the operator's own roles."""
    roles = [role for role in of_kind(objects, "Role", "ClusterRole") if not role["metadata"]["name"].endswith(("-view", "-edit"))]
    return [rule for role in roles for rule in role["rules"]]


@pytest.mark.parametrize("given", sorted((CHART / "ci").glob("*-values.yaml")), ids=lambda path: path.stem)
def test_the_chart_is_sound_with_the_values_of_usual_cases_and_names_no_object_twice(given: Path) -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART), "--values", str(given))
    objects = rendered(yaml.safe_load(given.read_text()), tests=True)
    named = [(found["kind"], found["metadata"].get("namespace"), found["metadata"]["name"]) for found in objects]
    assert len(named) == len(set(named)) >= 12


@pytest.mark.parametrize("values", [{}, FULL, {"namespaces": ["a"]}], ids=["defaults", "everything", "one namespace"])
def test_the_operator_may_read_no_secret_enter_no_pod_and_give_no_rights(values: dict[str, Any]) -> None:
    for rule in rules(rendered(values)):
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        assert not {"secrets", "pods/exec", "pods/attach", "serviceaccounts", "serviceaccounts/token"} & set(rule["resources"])
        assert "rbac.authorization.k8s.io" not in rule["apiGroups"] and "admissionregistration.k8s.io" not in rule["apiGroups"]
        assert not {"escalate", "bind", "impersonate", "deletecollection"} & set(rule["verbs"])


def test_with_named_namespaces_there_are_roles_alone() -> None:
    objects = rendered({"namespaces": ["a", "b"]})
    assert of_kind(objects, "ClusterRole", "ClusterRoleBinding") == []
    assert sorted(role["metadata"]["namespace"] for role in of_kind(objects, "Role")) == ["a", "b", "llmtrain-system"]
    assert all("nodes" not in rule["resources"] for rule in rules(objects))
    arguments = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["args"]
    assert [word for word in arguments if word.startswith("--namespace")] == ["--namespace=a", "--namespace=b"]
    selector = one(objects, "ValidatingWebhookConfiguration", "llmtrain-system-llmtrain")["webhooks"][0]["namespaceSelector"]
    assert {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["a", "b"]} in selector["matchExpressions"]


def test_without_crd_and_webhook_nothing_belongs_to_the_whole_cluster() -> None:
    objects = rendered({"namespaces": ["a"], "crds": {"enabled": False}, "webhook": {"enabled": False}})
    assert [found["kind"] for found in objects if "namespace" not in found["metadata"]] == []
    assert of_kind(objects, "Secret") == []
    spec = one(objects, "Deployment")["spec"]["template"]["spec"]
    assert not any("webhook" in word for word in spec["containers"][0]["args"]) and "lifecycle" not in spec["containers"][0]


def test_the_crd_is_the_generated_one_and_is_kept() -> None:
    generated = yaml.safe_load((ROOT / "crds" / "llmtrain.io_llmtrainjobs.yaml").read_text())
    (installed,) = of_kind(rendered(), "CustomResourceDefinition")
    assert installed["spec"] == generated["spec"] and installed["metadata"]["name"] == generated["metadata"]["name"]
    assert installed["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    (loose,) = of_kind(rendered({"crds": {"keep": False}}), "CustomResourceDefinition")
    assert "annotations" not in loose["metadata"]


def test_the_pods_are_restricted_and_can_write_nothing_but_tmp() -> None:
    spec = one(rendered(), "Deployment")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["readOnlyRootFilesystem"] and container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")} == {"/tmp"}
    assert container["resources"]["requests"] and container["resources"]["limits"]["memory"]


def test_the_values_reach_the_pods() -> None:
    objects = rendered(FULL)
    pod = one(objects, "Deployment")["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert container["image"] == FULL["image"] and pod["spec"]["priorityClassName"] == "system-cluster-critical"
    environment = {each["name"]: each.get("value") for each in container["env"]}
    assert environment["LLMTRAIN_TRAINER_IMAGE"] == FULL["trainerImage"] and "HF_TOKEN" in environment
    given = {"HF_ENDPOINT": "https://hub.example", "LEVEL": "3", "NCCL_BUFFSIZE": "8388608"}
    assert {f"--trainer-env={name}={value}" for name, value in given.items()} <= set(container["args"])
    assert "--metrics-namespace=monitoring" in container["args"]
    assert pod["metadata"]["labels"]["team"] == "ml" and pod["spec"]["nodeSelector"] == {"pool": "system"}
    assert one(objects, "ServiceMonitor")["spec"]["endpoints"] == [{"port": "http", "interval": "15s"}]


def test_one_replica_needs_no_disruption_budget() -> None:
    assert of_kind(rendered(), "PodDisruptionBudget") and not of_kind(rendered({"replicas": 1}), "PodDisruptionBudget")


def test_nothing_but_reviews_comes_in_unless_a_namespace_is_named() -> None:
    assert one(rendered(), "NetworkPolicy")["spec"]["ingress"] == [{"ports": [{"protocol": "TCP", "port": "webhook"}]}]
    assert one(rendered({"webhook": {"enabled": False}}), "NetworkPolicy")["spec"]["ingress"] == []
    assert len(one(rendered(FULL), "NetworkPolicy")["spec"]["ingress"]) == 2


def test_the_certificate_that_helm_makes_is_for_the_service_and_signed_by_the_bundle(tmp_path: Path) -> None:
    objects = rendered()
    data = one(objects, "Secret", "llmtrain-webhook-tls")["data"]
    client = one(objects, "ValidatingWebhookConfiguration", "llmtrain-system-llmtrain")["webhooks"][0]["clientConfig"]
    assert client["caBundle"] == data["ca.crt"]
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).write_bytes(base64.b64decode(data[name]))
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    certificate = x509.load_pem_x509_certificate((tmp_path / "tls.crt").read_bytes())
    authority = x509.load_pem_x509_certificate(base64.b64decode(data["ca.crt"]))
    certificate.verify_directly_issued_by(authority)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    service = client["service"]
    assert f"{service['name']}.{service['namespace']}.svc" in names


def test_cert_manager_fills_in_the_bundle() -> None:
    objects = rendered({"webhook": {"certificates": {"mode": "certManager"}}})
    webhook = one(objects, "ValidatingWebhookConfiguration", "llmtrain-system-llmtrain")
    certificate = one(objects, "Certificate", "llmtrain-webhook-tls")
    assert webhook["metadata"]["annotations"]["cert-manager.io/inject-ca-from"] == "llmtrain-system/llmtrain-webhook-tls"
    assert "caBundle" not in webhook["webhooks"][0]["clientConfig"] and of_kind(objects, "Secret") == []
    assert of_kind(objects, "Issuer") and certificate["spec"]["issuerRef"]["kind"] == "Issuer"
    given = {"kind": "ClusterIssuer", "name": "ours"}
    objects = rendered({"webhook": {"certificates": {"mode": "certManager", "issuerRef": given}}})
    assert not of_kind(objects, "Issuer") and one(objects, "Certificate", "llmtrain-webhook-tls")["spec"]["issuerRef"] == given


def test_a_given_certificate_is_taken_as_it_is() -> None:
    given = {"mode": "existing", "secretName": "mine", "caBundle": "Q0E="}
    objects = rendered({"webhook": {"certificates": given}})
    webhook = one(objects, "ValidatingWebhookConfiguration", "llmtrain-system-llmtrain")
    assert webhook["webhooks"][0]["clientConfig"]["caBundle"] == "Q0E=" and of_kind(objects, "Secret") == []
    volumes = one(objects, "Deployment")["spec"]["template"]["spec"]["volumes"]
    assert {"name": "certificates", "secret": {"secretName": "mine"}} in volumes


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"replica": 3}, "replica"),
        ({"webhook": {"failurepolicy": "Fail"}}, "failurepolicy"),
        ({"webhook": {"failurePolicy": "Perhaps"}}, "failurePolicy"),
        ({"namespaces": ["A_B"]}, "namespaces"),
        ({"replicas": 0}, "replicas"),
        ({"webhook": {"certificates": {"mode": "existing"}}}, "mode existing needs"),
        ({"serviceAccount": {"create": False}}, "name the ServiceAccount"),
    ],
    ids=str,
)
def test_a_value_that_cannot_be_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(RuntimeError, match=said):
        rendered(values)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, ["--source=hf://", "--source=s3://"]),
        ({"sources": ["s3://models/"]}, ["--source=s3://models/"]),
        ({"sources": False}, ["--source=off"]),
        ({"sources": "off"}, ["--source=off"]),
        ({"sources": []}, ["--source=off"]),
    ],
)
def test_sources_of_models_are_opened_by_prefix_or_closed(values: dict[str, Any], told: list[str]) -> None:
    container = one(rendered(values), "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert [word for word in container["args"] if word.startswith("--source=")] == told


def test_default_images_come_from_the_registry_and_full_names_stay() -> None:
    def images(**values: Any) -> tuple[str, str]:
        (container,) = one(rendered(values), "Deployment")["spec"]["template"]["spec"]["containers"]
        return container["image"], next(each["value"] for each in container["env"] if each["name"] == "LLMTRAIN_TRAINER_IMAGE")

    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert images() == (f"llmtrain/operator:{version}", f"llmtrain/trainer:{version}")
    mirrored = images(imageRegistry="mirror:5000/a")
    assert mirrored == (f"mirror:5000/a/llmtrain/operator:{version}", f"mirror:5000/a/llmtrain/trainer:{version}")
    assert images(imageRegistry="mirror", image="other/x:1")[0] == "other/x:1"


def test_constraints_of_the_spread_count_the_operators_pods() -> None:
    given = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    spec = one(rendered({"topologySpreadConstraints": [given]}), "Deployment")["spec"]
    (constraint,) = spec["template"]["spec"]["topologySpreadConstraints"]
    assert constraint == {**given, "labelSelector": {"matchLabels": spec["selector"]["matchLabels"]}}
    own = {**given, "labelSelector": {"matchLabels": {"app": "x"}}}
    (constraint,) = one(rendered({"topologySpreadConstraints": [own]}), "Deployment")["spec"]["template"]["spec"][
        "topologySpreadConstraints"
    ]
    assert constraint == own


def test_further_objects_are_installed_with_their_templates_filled_in() -> None:
    extra = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-more"}}
    assert one(rendered({"extraObjects": [extra, extra | {"kind": "Secret"}]}), "ConfigMap", "llmtrain-more")


def test_helm_test_is_a_hook_with_a_job_that_can_be_trained_in_a_watched_namespace() -> None:
    for values, namespace in (({}, "llmtrain-system"), ({"namespaces": ["b", "a"]}, "b")):
        hooks = [found for found in rendered(values, tests=True) if "helm.sh/hook" in found["metadata"].get("annotations", {})]
        assert sorted(found["kind"] for found in hooks) == ["ConfigMap", "Pod", "Role", "RoleBinding", "ServiceAccount"]
        assert {found["metadata"]["namespace"] for found in hooks} == {namespace}
        job = parse_manifest(one(hooks, "ConfigMap", "llmtrain-test")["data"]["job.yaml"])
        assert plan(job, shape_of(job.spec.model.config or {})).mesh.world_size == 1 and job.spec.training.max_steps == 2
        compile(one(hooks, "ConfigMap", "llmtrain-test")["data"]["train.py"], "train.py", "exec")
    selector = one(rendered(), "Deployment")["spec"]["selector"]["matchLabels"]
    assert not selector.items() <= one(hooks, "Pod", "llmtrain-test")["metadata"]["labels"].items()


@pytest.mark.parametrize("values", [{}, {"namespaces": ["team"], "webhook": {"enabled": False}}], ids=["defaults", "one namespace"])
def test_the_notes_show_a_first_job_that_is_a_manifest(values: dict[str, Any]) -> None:
    said = helm("install", "llmtrain", str(CHART), "--dry-run=client", "--values", "-", stdin=yaml.safe_dump(values)).split("NOTES:")[1]
    shown = said.split("<<'END'\n")[1].split("  END\n")[0]
    job = parse_manifest(textwrap.dedent(shown))
    assert job.spec.peft is not None and "kubectl llmtrain why first" in said and "helm test llmtrain" in said
