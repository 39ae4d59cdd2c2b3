"""NetworkPolicy of a job: who may connect to its pods.

Ranks speak without authentication on ports that NCCL and gloo choose, so only pods of the same job reach them. What the pods may reach is
left open: the addresses of a hub or an object store are not known to a policy.
"""

from __future__ import annotations

from typing import Any

from llmtrain_operator.kube import names
from llmtrain_operator.kube.render_settings import HTTP_PORT_NAME, RenderSettings


def network_policy(job: str, settings: RenderSettings) -> dict[str, Any]:
    """The policy: all ports for the pods of the job, the agents' HTTP port for the operator and for metrics; no other ingress."""
    readers = [_namespace(name) for name in dict.fromkeys((settings.operator_namespace, *settings.metrics_namespaces))]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": names.service(job)},
        "spec": {
            "podSelector": {"matchLabels": dict(names.job_labels(job))},
            "policyTypes": ["Ingress"],
            "ingress": [
                {"from": [{"podSelector": {"matchLabels": dict(names.job_labels(job))}}]},
                {"from": readers, "ports": [{"protocol": "TCP", "port": HTTP_PORT_NAME}]},
            ],
        },
    }


def _namespace(name: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
