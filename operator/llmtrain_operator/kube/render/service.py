"""Headless Service with which the pods of a job find each other, one for all attempts."""

from __future__ import annotations

from typing import Any

from llmtrain_operator.kube import names
from llmtrain_operator.kube.render_settings import HTTP_PORT, HTTP_PORT_NAME, RENDEZVOUS_PORT


def service(job: str) -> dict[str, Any]:
    """The Service. Names resolve before pods are ready, because the ranks connect to each other before that."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": names.service(job)},
        "spec": {
            "clusterIP": "None",
            "ipFamilyPolicy": "PreferDualStack",
            "publishNotReadyAddresses": True,
            "selector": dict(names.job_labels(job)),
            "ports": [
                {"name": "rendezvous", "port": RENDEZVOUS_PORT, "targetPort": "rendezvous", "protocol": "TCP"},
                {"name": HTTP_PORT_NAME, "port": HTTP_PORT, "targetPort": HTTP_PORT_NAME, "protocol": "TCP"},
            ],
        },
    }
