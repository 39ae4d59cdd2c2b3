"""Jobs and their pods as a person asks for them."""

from __future__ import annotations

from llmtrain_operator.api.job import GROUP, KIND, VERSION
from llmtrain_operator.kube import names
from llmtrain_operator.kube.api.client import Client, Object, path_of
from llmtrain_operator.kube.observe.ownership import is_made_for, labelled

API = f"{GROUP}/{VERSION}"


def job_path(namespace: str | None, name: str | None = None) -> str:
    """Of the collection in a namespace, or in all; of one job where it is named."""
    return path_of(API, KIND, namespace, name)


async def list_jobs(client: Client, namespace: str | None, **query: str) -> list[Object]:
    """By namespace and name, each with its apiVersion and kind. Raises ApiError; code 404: the cluster knows no such kind."""
    found = await client.list(job_path(namespace), **query)
    found.sort(key=lambda job: (job["metadata"]["namespace"], job["metadata"]["name"]))
    return [{"apiVersion": API, "kind": KIND, **job} for job in found]


async def pods_of(client: Client, namespace: str, job: str) -> list[Object]:
    """All pods of a job that there still are, by attempt and index. Pods that borrow its label are not its own. Raises ApiError."""
    selector = ",".join(f"{key}={value}" for key, value in names.job_labels(job).items())
    found = await client.list(path_of("v1", "Pod", namespace), labelSelector=selector)
    made = [pod for pod in found if attempt_of(pod) and is_made_for(pod, job)]
    return sorted(made, key=lambda pod: (attempt_of(pod), index_of(pod)))


def attempt_of(pod: Object) -> int:
    """Which attempt it is part of; 0 where its name does not say."""
    return _numbers(pod)[0]


def index_of(pod: Object) -> int:
    """Number of its node in the gang."""
    return _numbers(pod)[1]


def _numbers(pod: Object) -> tuple[int, int]:
    return names.numbers(labelled(pod) or "", pod["metadata"]["name"]) or (0, 0)
