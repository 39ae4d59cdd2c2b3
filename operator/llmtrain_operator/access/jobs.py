"""Lists jobs and their pods for a person's commands."""

from __future__ import annotations

from llmtrain_operator.api.job import GROUP, KIND, VERSION
from llmtrain_operator.kube import names
from llmtrain_operator.kube.api.client import Client, Object, path_of
from llmtrain_operator.kube.observe.ownership import is_made_for, labelled

API = f"{GROUP}/{VERSION}"


def job_path(namespace: str | None, name: str | None = None) -> str:
    """The path of the collection in a namespace, or in all; with `name` of one job."""
    return path_of(API, KIND, namespace, name)


async def list_jobs(client: Client, namespace: str | None, **query: str) -> list[Object]:
    """Jobs by namespace and name, each with apiVersion and kind. Raises ApiError; code 404: the cluster does not know the kind."""
    found = await client.list(job_path(namespace), **query)
    found.sort(key=lambda job: (job["metadata"]["namespace"], job["metadata"]["name"]))
    return [{"apiVersion": API, "kind": KIND, **job} for job in found]


async def pods_of(client: Client, namespace: str, job: str) -> list[Object]:
    """All existing pods of a job, by attempt and index, without foreign pods that have its label. Raises ApiError."""
    selector = ",".join(f"{key}={value}" for key, value in names.job_labels(job).items())
    found = await client.list(path_of("v1", "Pod", namespace), labelSelector=selector)
    made = [pod for pod in found if attempt_of(pod) and is_made_for(pod, job)]
    return sorted(made, key=lambda pod: (attempt_of(pod), index_of(pod)))


def attempt_of(pod: Object) -> int:
    """The attempt of a pod; 0 if its name does not say."""
    return _numbers(pod)[0]


def index_of(pod: Object) -> int:
    """Index of the pod in its gang."""
    return _numbers(pod)[1]


def _numbers(pod: Object) -> tuple[int, int]:
    return names.numbers(labelled(pod) or "", pod["metadata"]["name"]) or (0, 0)
