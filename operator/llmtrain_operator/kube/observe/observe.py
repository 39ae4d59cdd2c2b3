"""Reads a job, its pods and what concerns them into one Observed.

The job and its pods are read each time; nodes, warnings and agents only when they can add something. A healthy gang costs two requests to
the API server and one to its first agent.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from llmtrain_operator.kube import names
from llmtrain_operator.kube.api.client import ApiError, Client, Object, path_of
from llmtrain_operator.kube.api.shared_read import SharedRead
from llmtrain_operator.kube.gangs.detect import GangApis, admission_of, gang_of, not_served
from llmtrain_operator.kube.judging.planner import Planned, Planner
from llmtrain_operator.kube.names import JobKey
from llmtrain_operator.kube.observe.agents import Agents, agent_url
from llmtrain_operator.kube.observe.ownership import labelled, pods_made_for
from llmtrain_operator.kube.resources import JOBS
from llmtrain_operator.life.attempt import HEARD_WITHIN
from llmtrain_operator.life.from_objects import LABEL_JOB, job_of, node_of, warnings_of
from llmtrain_operator.life.observed import Agent, Node, Observed, Pod, Warned

STARTS_SECONDS, MOUNTS_SECONDS = 30.0, 10.0
"""Age of a pod that is not ready when its node is read; and of one that has a node but does not run when its warnings are read.
Every pod starts in these states, often hundreds at once."""

ASKED_AGENTS = 16
"""Most agents of a gang that are asked. In a larger gang, the agents of node 0 and of pods that are not ready are asked; if node 0 is
silent, others too, to see whether any agent can be reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One observation of a job: the raw objects for writes, and the values for decisions."""

    manifest: Object
    planned: Planned
    observed: Observed


class Observer:
    """`url_of`: URL of the status of a pod's agent, or None before the pod has an address."""

    def __init__(
        self,
        client: Client,
        agents: Agents,
        planner: Planner,
        gangs: GangApis,
        wall: Callable[[], float] = time.time,
        url_of: Callable[[Object], str | None] = agent_url,
    ) -> None:
        self._client, self._agents, self._planner, self._gangs, self._wall = client, agents, planner, gangs, wall
        self._url_of = url_of
        self._warned, self._node = SharedRead(self._read_warnings, wall), SharedRead(self._read_node, wall)

    async def observe(self, namespace: str, name: str) -> Observation | None:
        """The observation; None if there is no such job. Raises ApiError, or StillReadingError if its plan waits for the model's source."""
        manifest = await self._client.get(path_of(JOBS.api_version, JOBS.kind, namespace, name))
        if manifest is None:
            return None
        planned = await self._planner.plan_now(manifest)
        raw = await self._client.list(path_of("v1", "Pod", namespace), labelSelector=f"{LABEL_JOB}={name}")
        observed = observed_of(manifest, raw, self._gangs, self._wall(), planned)
        job, pods = observed.job, observed.pods
        group = names.gang(name, max((pod.attempt for pod in pods if pod.owner == job.uid), default=0))
        nodes, agents, warnings, admission = await asyncio.gather(
            self._nodes(pods, raw),
            self._ask((namespace, name), job.uid, pods, raw),
            self._warnings(namespace, pods),
            admission_of(self._client, self._gangs, observed.gang, namespace, group),
        )
        seen = replace(observed, now=self._wall(), nodes=nodes, agents=agents, admission=admission, warnings=warnings)
        return Observation(manifest=manifest, planned=planned, observed=seen)

    async def all(self, namespaces: Sequence[str]) -> AsyncIterator[Observed]:
        """Every job with its pods, without agents and events, to compare jobs with each other. Raises ApiError."""
        scopes: Sequence[str | None] = namespaces or [None]
        for namespace in scopes:
            pods: dict[JobKey, list[Pod]] = defaultdict(list)
            async for pod in self._client.each(path_of("v1", "Pod", namespace), labelSelector=LABEL_JOB):
                job = labelled(pod) or ""
                pods[pod["metadata"]["namespace"], job].extend(pods_made_for([pod], job))
            async for manifest in self._client.each(path_of(JOBS.api_version, JOBS.kind, namespace)):
                manifest |= {"apiVersion": JOBS.api_version, "kind": JOBS.kind}
                key = manifest["metadata"]["namespace"], manifest["metadata"]["name"]
                yield _observed(manifest, tuple(pods.pop(key, ())), self._gangs, self._wall())
                await asyncio.sleep(0)  # thousands of manifests take seconds to read

    def forget(self, key: JobKey) -> None:
        """Forget a job that is gone."""
        self._agents.forget(key)

    async def _nodes(self, pods: Iterable[Pod], raw: Iterable[Object]) -> Mapping[str, Node]:
        """Nodes of pods that are not ready. The node of a Ready pod is Ready, since Kubernetes marks pods of a lost node as not ready."""
        well = {pod.name for pod in self._well(pods, raw)}
        asked = (pod for pod in pods if pod.name not in well and (pod.deleting is not None or self._older(pod, STARTS_SECONDS)))
        wanted = sorted({pod.node for pod in asked if pod.node and pod.phase != "Succeeded"})
        try:
            found = await asyncio.gather(*map(self._node.of, wanted))
        except ApiError as error:
            if error.code != 403:
                raise
            return {}  # an operator with rights in namespaces only cannot read nodes; the pods show most of their state
        return dict(zip(wanted, found, strict=True))

    async def _ask(self, key: JobKey, uid: str, pods: Iterable[Pod], raw: Iterable[Object]) -> Mapping[int, Agent]:
        """The last answers of the agents of the newest attempt; one that does not answer now keeps its previous answer."""
        mine = [pod for pod in pods if pod.owner == uid]
        newest = max((pod.attempt for pod in mine), default=0)
        urls = {pod["metadata"]["name"]: self._url_of(pod) for pod in raw}
        runs = {pod.index: url for pod in mine if pod.attempt == newest and pod.running and (url := urls[pod.name])}
        if len(runs) <= ASKED_AGENTS:
            return await self._agents.ask(key, newest, runs)
        unwell = {pod.index for pod in mine if pod.attempt == newest} - {pod.index for pod in self._well(mine, raw)}
        said = await self._agents.ask(key, newest, {index: url for index, url in runs.items() if index == 0 or index in unwell})
        if 0 in said and self._wall() - said[0].time < HEARD_WITHIN:
            return said
        others = dict(islice(((index, url) for index, url in sorted(runs.items()) if index and index not in unwell), ASKED_AGENTS))
        return {**said, **await self._agents.ask(key, newest, others)}

    async def _warnings(self, namespace: str, pods: Iterable[Pod]) -> Mapping[str, Warned]:
        """Warning events, read only if the status of a pod does not say enough: it has a node but does not run (volumes, secrets), or was
        told to stop without a known reason (probes)."""
        stuck = (pod.node and not pod.running and not pod.stopped and self._older(pod, MOUNTS_SECONDS) for pod in pods)
        if not any(stuck) and not any(pod.told_by_nobody for pod in pods):
            return {}
        return await self._warned.of(namespace)

    async def _read_warnings(self, namespace: str) -> Mapping[str, Warned]:
        selector = "involvedObject.kind=Pod,type=Warning"
        return warnings_of(await self._client.list(path_of("v1", "Event", namespace), fieldSelector=selector))

    async def _read_node(self, name: str) -> Node:
        return node_of(name, await self._client.get(path_of("v1", "Node", name=name)))

    @staticmethod
    def _well(pods: Iterable[Pod], raw: Iterable[Object]) -> list[Pod]:
        """Pods that are Ready and are not being deleted."""
        ready = {pod["metadata"]["name"] for pod in raw if _ready(pod)}
        return [pod for pod in pods if pod.name in ready and pod.deleting is None]

    def _older(self, pod: Pod, seconds: float) -> bool:
        return pod.created is None or self._wall() - pod.created >= seconds


def observed_of(manifest: Object, pods: Iterable[Object], gangs: GangApis, now: float, planned: Planned | None = None) -> Observed:
    """The values from objects of the API server only. With `planned` the manifest is not parsed again."""
    return _observed(manifest, pods_made_for(pods, manifest["metadata"]["name"]), gangs, now, planned)


def _observed(manifest: Object, pods: tuple[Pod, ...], gangs: GangApis, now: float, planned: Planned | None = None) -> Observed:
    known = planned.job if planned else None
    refusals = (planned.refusal if planned else None, not_served(known.spec if known else None, gangs))
    job = job_of(manifest, " ".join(filter(None, refusals)) or None, known.spec if known else None)
    return Observed(now=now, job=job, plan=planned.plan if planned else None, pods=pods, gang=gang_of(job.spec, gangs))


def _ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)
