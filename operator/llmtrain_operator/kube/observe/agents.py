"""Status of the agents in a job's pods, requested over HTTP and cached.

An agent that can be reached answers in milliseconds, on a busy node within a second. One that cannot, because its node or the network is
down, must not delay every observation of its job, and a worker with it: after a first timeout an observation hardly waits for it and uses
the previous answer; a late answer is available to the next observation.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Callable, Mapping

import aiohttp

from llmtrain_operator.kube.api.client import Object
from llmtrain_operator.kube.names import JobKey
from llmtrain_operator.kube.render_settings import HTTP_PORT_NAME
from llmtrain_operator.life.from_objects import agent_of
from llmtrain_operator.life.observed import Agent

ANSWER_SECONDS = 2.0
"""Seconds that an agent may take to answer."""

WAITED_SECONDS = 0.3
"""Seconds that an observation waits for an agent that did not answer last time."""

LARGEST_ANSWER = 1 << 18
"""Most bytes read of an agent's answer, which is untrusted: the pod may run foreign code."""

CONNECTIONS = 1000
"""Most concurrent connections to agents; silent agents must leave room for the others."""


class Agents:
    """`wake` is called for a job whose agent first answers after its observation had returned."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        wall: Callable[[], float] = time.time,
        wake: Callable[[JobKey], None] = lambda _: None,
        within: float = ANSWER_SECONDS,
        waited: float = WAITED_SECONDS,
    ) -> None:
        self._http, self._wall, self._wake, self._within, self._waited = http, wall, wake, within, waited
        self._silent: defaultdict[JobKey, set[str]] = defaultdict(set)
        self._heard: defaultdict[JobKey, dict[int, Agent]] = defaultdict(dict)
        self._asking: defaultdict[JobKey, dict[str, asyncio.Task[None]]] = defaultdict(dict)

    async def ask(self, key: JobKey, attempt: int, urls: Mapping[int, str]) -> Mapping[int, Agent]:
        """The last answers of the agents of this attempt, by index; agents with a URL are asked again."""
        asked = {url: self._asking[key].get(url) or self._begin(key, index, url) for index, url in urls.items()}
        if trusted := [task for url, task in asked.items() if url not in self._silent[key]]:
            await asyncio.wait(trusted)  # each ends by itself within seconds
        if asked:
            await asyncio.wait(asked.values(), timeout=self._waited)
        said = {index: agent for index, agent in self._heard.pop(key, {}).items() if agent.status.attempt == attempt}
        if said:
            self._heard[key] = dict(said)
        return said

    def forget(self, key: JobKey) -> None:
        """Forget a job that is gone."""
        self._heard.pop(key, None)
        self._silent.pop(key, None)
        for task in self._asking.pop(key, {}).values():
            task.cancel()

    def _begin(self, key: JobKey, index: int, url: str) -> asyncio.Task[None]:
        task = self._asking[key][url] = asyncio.create_task(self._hear(key, index, url))
        task.add_done_callback(lambda _: self._asked(key, url))
        return task

    async def _hear(self, key: JobKey, index: int, url: str) -> None:
        began = time.monotonic()
        answer = await ask(self._http, url, self._wall, self._within)
        if answer is None:
            self._silent[key].add(url)
            return
        missed = url in self._silent[key] and time.monotonic() - began > self._waited
        self._silent[key].discard(url)
        if index not in self._heard[key] and missed:
            self._wake(key)
        self._heard[key][index] = answer

    def _asked(self, key: JobKey, url: str) -> None:
        asking = self._asking.get(key, {})
        asking.pop(url, None)
        if not asking:
            self._asking.pop(key, None)


async def ask(http: aiohttp.ClientSession, url: str, wall: Callable[[], float] = time.time, within: float = ANSWER_SECONDS) -> Agent | None:
    """The answer of an agent; None if it does not answer in time, or not with a valid status."""
    limit = aiohttp.ClientTimeout(total=within)
    try:
        async with http.get(url, timeout=limit, allow_redirects=False) as answer:
            raw = bytearray()
            async for chunk in answer.content.iter_any():
                raw += chunk
                if len(raw) > LARGEST_ANSWER:
                    return None
            return agent_of(json.loads(raw), wall())
    except (aiohttp.ClientError, TimeoutError, ValueError, RecursionError):
        return None


def agent_url(pod: Object) -> str | None:
    """URL of the status of a pod's agent, from inside the cluster; None before the pod has an address."""
    address = address_of(pod)
    return f"http://{address}/status" if address else None


def address_of(pod: Object) -> str | None:
    """Host and port of a pod's agent; None before it has an address."""
    address = (pod.get("status") or {}).get("podIP")
    ports = {port.get("name"): port.get("containerPort") for box in pod["spec"]["containers"] for port in box.get("ports") or []}
    if not address or HTTP_PORT_NAME not in ports:
        return None
    return f"[{address}]:{ports[HTTP_PORT_NAME]}" if ":" in address else f"{address}:{ports[HTTP_PORT_NAME]}"
