"""Writes to the cluster: creates objects, creates and deletes pods concurrently.

An object of somebody else is never changed: each object is created, and if its name is in use, its owner is checked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from llmtrain_operator.kube.api.client import ApiError, Client, Object, path_of, path_to
from llmtrain_operator.kube.names import LABEL_JOB_UID
from llmtrain_operator.kube.observe.ownership import holder, is_made_for, is_of, labelled
from llmtrain_operator.kube.render.config_map import SECRET
from llmtrain_operator.life.decision import Deletion

IN_FLIGHT = 32
"""Writes of one job at a time; more does not make the API server faster."""

_KEPT_UP = ("NetworkPolicy", "Service")
"""Kinds that are updated if the job already has one. ConfigMaps are immutable, pods may run, PodGroups belong to one attempt."""

Result = TypeVar("Result")


class NotCreatedError(Exception):
    """An object of a gang was not created. `taken`: somebody else has its name. `pods`: whether some pods were created before."""

    def __init__(self, code: int, message: str, *, taken: bool = False, pods: bool = False) -> None:
        self.code, self.message, self.taken, self.pods = code, message, taken, pods
        super().__init__(message)


async def create_gang(client: Client, objects: Iterable[Object], *, fresh: bool = True) -> None:
    """Create the objects of a gang, then its pods: first one, then all others concurrently.

    The pods are alike: a reason to refuse the first one would be repeated for hundreds of them, again and again.
    `fresh`: the attempt has no pods yet, so that a ConfigMap of an older manifest may be replaced.

    Raises NotCreatedError: for the first pod at once, for others after all were tried; created objects are kept.
    """
    everything = list(objects)
    pods = [one for one in everything if one["kind"] == "Pod"]
    begun = False
    for some in ([one for one in everything if one["kind"] != "Pod"], pods[:1], pods[1:]):
        try:
            await _all([_ensure(client, one, fresh) for one in some])
        except ApiError as error:
            raise NotCreatedError(error.code, error.message, pods=begun) from error
        except NotCreatedError as error:
            raise NotCreatedError(error.code, error.message, taken=error.taken, pods=begun) from error
        begun = begun or some == pods[:1]


async def delete_pods(client: Client, namespace: str, pods: Iterable[Deletion]) -> int:
    """Delete pods, each only if its uid still matches; returns the number of deleted ones."""
    gone = [
        client.delete(path_of("v1", "Pod", namespace, pod.name), pod.uid, None if pod.grace is None else round(pod.grace)) for pod in pods
    ]
    return sum(await _all(gone))


async def write_status(client: Client, job: Object, status: Object) -> bool:
    """Apply the whole status if it differs from the job's; True if it was written.

    The uid in the body makes it a conflict to write the status of a new job of the same name.
    """
    if status == (job.get("status") or {}):
        return False
    metadata = {key: job["metadata"][key] for key in ("name", "namespace", "uid") if key in job["metadata"]}
    body = {"apiVersion": job["apiVersion"], "kind": job["kind"], "metadata": metadata, "status": status}
    await client.apply(path_to(job, "status"), body)
    return True


async def _ensure(client: Client, wanted: Object, fresh: bool) -> None:
    """Ensure that the object exists and belongs to the job. An object of an earlier job with the same name is replaced."""
    if await _create(client, wanted):
        return
    found = await client.get(path_to(wanted))
    if found is not None:
        await _settle(client, wanted, found, fresh)
    elif not await _create(client, wanted):
        raise ApiError(409, "Conflict", f"{_name(wanted)} is created and deleted concurrently")


async def _settle(client: Client, wanted: Object, found: Object, fresh: bool) -> None:
    """The name is in use: by the job itself, by an earlier job with its name, or by somebody else, whose object stays as it is."""
    meta = wanted["metadata"]
    uid, found_uid = meta["labels"][LABEL_JOB_UID], found["metadata"].get("uid")
    if is_of(found, uid):
        if wanted["kind"] in _KEPT_UP:
            await client.apply(path_to(wanted), {**wanted, "metadata": {**meta, "uid": found_uid}})
            return
        if wanted["kind"] == "Pod" or not fresh or _same(found, wanted):
            return
    elif not is_made_for(found, labelled(wanted) or ""):
        raise NotCreatedError(409, _taken(wanted, found), taken=True)
    await client.delete(path_to(wanted), found_uid)
    if not await _create(client, wanted):
        raise ApiError(409, "Conflict", f"the {_name(wanted)} of an earlier job with this name is still being deleted")


def _same(found: Object, wanted: Object) -> bool:
    """Whether an object of an attempt has the wanted content. Fields that a server added to a PodGroup are ignored."""
    if wanted["kind"] == "PodGroup":
        given = found.get("spec") or {}
        return all(given.get(key) == value for key, value in wanted["spec"].items())
    return _data(found) == _data(wanted)


def _data(config_map: Object) -> Object:
    """Content of a ConfigMap without the secret, which differs each time it is rendered: pods may have started with the first one."""
    return {key: value for key, value in (config_map.get("data") or {}).items() if key != SECRET}


async def _create(client: Client, wanted: Object) -> bool:
    """Create the object; False if one with that name exists."""
    collection = path_to({**wanted, "metadata": {**wanted["metadata"], "name": ""}})
    try:
        await client.create(collection, wanted)
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise
        return False
    return True


def _taken(wanted: Object, found: Object) -> str:
    namespace, kind, name = wanted["metadata"]["namespace"], wanted["kind"], wanted["metadata"]["name"]
    return (
        f"{kind} {name} of namespace {namespace} belongs to {holder(found)}, but the job needs that name. "
        f"Delete it (kubectl -n {namespace} delete {kind.lower()} {name}) or give the job another name; until then nothing is created."
    )


def _name(wanted: Object) -> str:
    return f"{wanted['kind']} {wanted['metadata']['name']}"


async def _all(calls: list[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Run all to completion, at most IN_FLIGHT at a time; then raise the first error, if any."""
    gate = asyncio.Semaphore(IN_FLIGHT)

    async def one(call: Coroutine[Any, Any, Result]) -> Result:
        async with gate:
            return await call

    done = await asyncio.gather(*map(one, calls), return_exceptions=True)
    for outcome in done:
        if isinstance(outcome, BaseException):
            raise outcome
    return [outcome for outcome in done if not isinstance(outcome, BaseException)]
