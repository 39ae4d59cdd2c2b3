"""Names and labels of everything a job has in the cluster: the one place that makes them.

Kubernetes allows 63 characters in a host name, a Service's name and a label's value.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import NamedTuple

from llmtrain_operator.life.from_objects import LABEL_ATTEMPT, LABEL_INDEX, LABEL_JOB

ObjectName = tuple[str, str]
"""Namespace, empty for a kind that has none, and name."""

JobKey = ObjectName
"""Namespace and name of a job."""


class Key(NamedTuple):
    """An object in the work queue."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


LABEL_JOB_UID = "llmtrain.io/job-uid"
"""Label of every object: the uid of its job. It stays when the owner reference is removed."""

LONGEST = 63
_DIGEST = 8


def pod(job: str, attempt: int, index: int) -> str:
    """demo-a2-0. It is the pod's host name too."""
    return _fit(job, f"-a{attempt}-{index}")


def numbers(job: str, name: str) -> tuple[int, int] | None:
    """Attempt and index of a pod from its name; None if this job does not use such a name."""
    found = re.search(r"-a([1-9][0-9]{0,8})-(0|[1-9][0-9]{0,5})$", name, re.ASCII)
    if found is None:
        return None
    attempt, index = int(found[1]), int(found[2])
    return (attempt, index) if pod(job, attempt, index) == name else None


def gang(job: str, attempt: int) -> str:
    """demo-a2: the pod group of an attempt, and its ConfigMap."""
    return _fit(job, f"-a{attempt}")


def service(job: str) -> str:
    """ltj-demo: also of the NetworkPolicy. The prefix keeps clear of Services that bear the job's own name, and of a digit in front."""
    return _fit(f"ltj-{job}", "")


def host(job: str, namespace: str, attempt: int, index: int, domain: str) -> str:
    """The DNS name of a pod for the other pods. It is fully qualified as in the pod's own hosts file: node 0 needs no DNS for itself."""
    return f"{pod(job, attempt, index)}.{service(job)}.{namespace}.svc.{domain}"


def job_labels(job: str) -> Mapping[str, str]:
    """Labels that select all objects of a job."""
    return {LABEL_JOB: job}


def attempt_labels(job: str, attempt: int) -> Mapping[str, str]:
    """Labels that select the objects of an attempt."""
    return {**job_labels(job), LABEL_ATTEMPT: str(attempt)}


def pod_labels(job: str, attempt: int, index: int) -> Mapping[str, str]:
    return {**attempt_labels(job, attempt), LABEL_INDEX: str(index)}


def object_labels(job: str) -> Mapping[str, str]:
    """Labels of every object: llmtrain's own, and those that dashboards group by."""
    return {
        **job_labels(job),
        "app.kubernetes.io/name": "llmtrain",
        "app.kubernetes.io/component": "trainer",
        "app.kubernetes.io/instance": job,
        "app.kubernetes.io/managed-by": "llmtrain-operator",
    }


def _fit(stem: str, suffix: str) -> str:
    """stem + suffix; a stem that leaves no room is cut, with a digest of the whole so that two jobs never share a name."""
    if len(stem) + len(suffix) <= LONGEST:
        return stem + suffix
    digest = hashlib.sha256(stem.encode()).hexdigest()[:_DIGEST]
    room = LONGEST - len(suffix) - _DIGEST - 1
    return f"{stem[:room].rstrip('-')}-{digest}{suffix}"
