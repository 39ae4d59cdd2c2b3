"""Writes to the cluster: server-side apply with one field manager, pods created and deleted many at a time. Called by reconcile."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from llmtrain_operator.kube.client import ApiError, Client, Object, path_of, path_to
from llmtrain_operator.life.decision import Deletion

IN_FLIGHT = 32
"""Writes of one job at a time; more does not make the API server faster."""

Result = TypeVar("Result")


async def create_gang(client: Client, objects: Iterable[Object]) -> None:
    """Apply everything a gang needs, then create its pods: the first alone, then all others at once.

    The pods are alike: what the first is refused for, be it a name that no cluster knows, would be said of hundreds, each time anew. A pod
    that exists already is left alone: a pod cannot change, and its name carries the attempt. Raises ApiError: of the first pod at once, of
    others after all were tried; what was made stays, and the next reconcile makes the rest.
    """
    everything = list(objects)
    await _all([client.apply(path_to(one), one) for one in everything if one["kind"] != "Pod"])
    pods = [one for one in everything if one["kind"] == "Pod"]
    for some in (pods[:1], pods[1:]):
        await _all([_create(client, one) for one in some])


async def delete_pods(client: Client, namespace: str, pods: Iterable[Deletion]) -> int:
    """Delete pods, each only if it is still the one that was meant; returns how many were."""
    gone = [
        client.delete(path_of("v1", "Pod", namespace, pod.name), pod.uid, None if pod.grace is None else round(pod.grace)) for pod in pods
    ]
    return sum(await _all(gone))


async def write_status(client: Client, job: Object, status: Object) -> bool:
    """Apply the whole status where it differs from what the job carries; True when it was written.

    The uid in the body makes it a conflict to write the status of a new job of the same name.
    """
    if status == (job.get("status") or {}):
        return False
    metadata = {key: job["metadata"][key] for key in ("name", "namespace", "uid")}
    body = {"apiVersion": job["apiVersion"], "kind": job["kind"], "metadata": metadata, "status": status}
    await client.apply(path_to(job, "status"), body)
    return True


async def _create(client: Client, pod: Object) -> None:
    try:
        await client.create(path_of("v1", "Pod", pod["metadata"]["namespace"]), pod)
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise


async def _all(calls: list[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Run all, at most IN_FLIGHT at a time, each to its end; then raise the first error, if any."""
    gate = asyncio.Semaphore(IN_FLIGHT)

    async def one(call: Coroutine[Any, Any, Result]) -> Result:
        async with gate:
            return await call

    done = await asyncio.gather(*map(one, calls), return_exceptions=True)
    for outcome in done:
        if isinstance(outcome, BaseException):
            raise outcome
    return [outcome for outcome in done if not isinstance(outcome, BaseException)]
