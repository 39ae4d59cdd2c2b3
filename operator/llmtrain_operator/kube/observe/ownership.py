"""The owner of an object: this job, an earlier job with the same name, or somebody else.

Anybody can set labels and names. An object belongs to a job if the job's uid is its controller. An object of an earlier job with the same
name has no controller (kubectl delete --cascade=orphan), but has all our labels and a name of our form. Everything else belongs to
somebody else: it is never counted, changed or deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from llmtrain_operator.api.job import GROUP, KIND
from llmtrain_operator.kube import names
from llmtrain_operator.kube.api.client import Object
from llmtrain_operator.life.from_objects import LABEL_JOB, pod_of
from llmtrain_operator.life.observed import Pod


def controller_of(found: Object) -> Mapping[str, Any] | None:
    """The owner reference of the controller; None if there is none."""
    owners = (found.get("metadata") or {}).get("ownerReferences") or ()
    return next((owner for owner in owners if owner.get("controller") is True), None)


def is_of(found: Object, uid: str) -> bool:
    """Whether the job with this uid controls the object."""
    owner = controller_of(found)
    return owner is not None and _is_job(owner) and owner.get("uid") == uid


def is_made_for(found: Object, job: str) -> bool:
    """Whether a job with this name created the object: this one, or an earlier one that is gone."""
    owner = controller_of(found)
    if owner is not None:
        return _is_job(owner) and owner.get("name") == job
    labels = (found.get("metadata") or {}).get("labels") or {}
    marks = names.object_labels(job)
    return bool(labels.get(names.LABEL_JOB_UID)) and all(labels.get(name) == value for name, value in marks.items())


def pods_made_for(raw: Iterable[Object], job: str) -> tuple[Pod, ...]:
    """Pods that this job, or an earlier one with its name, created. Attempt and index come from the name, since labels can be changed."""
    found = []
    for one in raw:
        number = names.numbers(job, str((one.get("metadata") or {}).get("name") or ""))
        if number is not None and is_made_for(one, job):
            found.append(replace(pod_of(one), attempt=number[0], index=number[1]))
    return tuple(found)


def holder(found: Object) -> str:
    """The owner of the object in words."""
    owner = controller_of(found)
    return f"{owner.get('kind')} {owner.get('name')}" if owner else "somebody else"


def labelled(found: Object) -> str | None:
    """The job that a label names."""
    name = ((found.get("metadata") or {}).get("labels") or {}).get(LABEL_JOB)
    return name if isinstance(name, str) and name else None


def _is_job(owner: Mapping[str, Any]) -> bool:
    return owner.get("kind") == KIND and str(owner.get("apiVersion") or "").partition("/")[0] == GROUP
