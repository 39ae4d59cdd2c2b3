"""Reads a job with a person's rights: the objects that the operator reads, where the person may, and whether an operator is at work.

It needs no running operator.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import aiohttp

from llmtrain_operator.access.jobs import pods_of
from llmtrain_operator.kube import names
from llmtrain_operator.kube.api.client import ApiError, Client, Object, path_of
from llmtrain_operator.kube.gangs.detect import GangApis
from llmtrain_operator.kube.judging.planner import Planned, Planner
from llmtrain_operator.kube.observe.agents import Agents, address_of, ask
from llmtrain_operator.kube.observe.observe import Observation, Observer
from llmtrain_operator.kube.process.lease import API as LEASES
from llmtrain_operator.kube.process.lease import LABELS
from llmtrain_operator.kube.render_settings import HTTP_PORT
from llmtrain_operator.life.from_objects import time_of_event
from llmtrain_operator.life.times import seconds_of
from llmtrain_trainer.config import NodeStatus
from llmtrain_trainer.config.formats import span

STALE_SECONDS = 60.0
"""A lease that was not renewed for this long has no holder at work; clocks of two machines differ by seconds."""

PLAN_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """The job, its pods and their events. `operator`: one sentence if no operator is at work; None if one is, or if it cannot be told."""

    observation: Observation
    pods: tuple[Object, ...]
    events: tuple[Object, ...]
    operator: str | None


class LenientClient(Client):
    """A client to which events, workloads and pod groups that the person may not read look absent. Jobs and pods must be readable."""

    async def list(self, path: str, **query: str) -> list[Object]:
        """As Client.list; no events if the person may not read events."""
        try:
            return await super().list(path, **query)
        except ApiError as error:
            if error.code == 403 and path.endswith("/events"):
                return []
            raise

    async def get(self, path: str, within: float | None = None) -> Object | None:
        """As Client.get; None for a workload or pod group that the person may not read."""
        try:
            return await super().get(path, within)
        except ApiError as error:
            if error.code == 403 and ("/workloads/" in path or "/podgroups/" in path):
                return None
            raise


class RecordedPlanner(Planner):
    """A planner that takes the operator's judgement of this generation from the status, and plans itself only if there is none."""

    async def plan(self, manifest: Object) -> Planned:
        status = manifest.get("status") or {}
        planned = next((one for one in status.get("conditions") or () if one.get("type") == "Planned"), None)
        if planned is None or planned.get("observedGeneration") != manifest["metadata"].get("generation"):
            return await super().plan(manifest)
        return Planned(job=None, plan=None, refusal=planned.get("message") if planned.get("status") == "False" else None)


async def inspect_job(client: Client, http: aiohttp.ClientSession, server: str, namespace: str, name: str) -> Inspection | None:
    """The inspection of a job; None if there is no such job. Raises ApiError."""
    planner = RecordedPlanner(within=PLAN_SECONDS)
    agents = Agents(http)
    observer = Observer(client, agents, planner, await GangApis.of(client), url_of=lambda pod: proxied(server, pod))
    observation = await observer.observe(namespace, name)
    if observation is None:
        return None
    pods = await pods_of(client, namespace, name)
    return Inspection(
        observation=observation, pods=tuple(pods), events=await _events(client, namespace, name, pods), operator=await _operator(client)
    )


def proxied(server: str, pod: Object) -> str | None:
    """URL of an agent's status through the API server's proxy, for callers outside the cluster; None before the pod has an address."""
    if address_of(pod) is None:
        return None
    metadata = pod["metadata"]
    return f"{server}{path_of('v1', 'Pod', metadata['namespace'], metadata['name'])}:{HTTP_PORT}/proxy/status"


async def ask_leader(http: aiohttp.ClientSession, server: str, namespace: str, job: str, attempt: int) -> NodeStatus | None:
    """Status from the agent of node 0 of an attempt; None if it does not answer, or the person may not use the proxy."""
    pod = path_of("v1", "Pod", namespace, names.pod(job, attempt, 0))
    agent = await ask(http, f"{server}{pod}:{HTTP_PORT}/proxy/status")
    return agent.status if agent is not None and agent.status.attempt == attempt else None


async def _events(client: Client, namespace: str, name: str, pods: list[Object]) -> tuple[Object, ...]:
    """Of the job and of its pods, oldest first."""
    path = path_of("v1", "Event", namespace)
    found = await client.list(path, fieldSelector=f"involvedObject.kind=LLMTrainJob,involvedObject.name={name}")
    mine = {pod["metadata"]["name"] for pod in pods}
    of_pods = await client.list(path, fieldSelector="involvedObject.kind=Pod") if mine else []
    found += [event for event in of_pods if event["involvedObject"].get("name") in mine]
    return tuple(sorted(found, key=lambda event: time_of_event(event) or 0.0))


async def _operator(client: Client) -> str | None:
    """One sentence where no operator holds its lease; None too where leases may not be read."""
    try:
        leases = await client.list(path_of(LEASES, "Lease"), labelSelector=",".join(f"{name}={value}" for name, value in LABELS.items()))
    except ApiError as error:
        if error.code == 403:
            return None
        raise
    renewals = [(at, lease) for lease in leases if (at := seconds_of((lease.get("spec") or {}).get("renewTime"))) is not None]
    if not renewals:
        return "No operator is at work: none holds a lease."
    renewed, newest = max(renewals, key=lambda one: one[0])
    silent = time.time() - renewed
    if silent < STALE_SECONDS:
        return None
    name, namespace = newest["metadata"]["name"], newest["metadata"]["namespace"]
    return f"No operator is at work: its lease {name} in namespace {namespace} was last renewed {span(silent)} ago."
