"""`llmtrain logs`: the output of the agents and ranks of a job, for any attempt whose pods still exist.

An agent prints its own lines unchanged, and lines of its ranks with a prefix: `[rank 3] ...`.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmtrain_operator.cli.on_cluster.access import Access, JobArgument, on_cluster
from llmtrain_operator.cli.refusal import ClusterError, UsageError
from llmtrain_operator.cli.say import say

if TYPE_CHECKING:
    from llmtrain_operator.kube.api.client import Object

SECONDS_BETWEEN_LOOKS = 1.0
QUIET_SECONDS = 0.5
"""Seconds of silence after which all existing lines of a log count as read."""

_NOT_YET = re.compile(r"is waiting to start|ContainerCreating|PodInitializing|not have a host assigned", re.IGNORECASE)


@on_cluster
async def logs(
    cluster: Access,
    job: JobArgument,
    rank: Annotated[int | None, typer.Option(help="Print the lines of this rank only.", min=0)] = None,
    node: Annotated[int | None, typer.Option(help="Print the log of this node only: its index in the gang.", min=0)] = None,
    attempt: Annotated[int | None, typer.Option(help="Number of the attempt. Default: the newest that has pods.", min=1)] = None,
    previous: Annotated[bool, typer.Option("--previous", "-p", help="Print the previous attempt.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Follow the log until the pods terminate.")] = False,
    tail: Annotated[int | None, typer.Option(help="Print only this many of the last lines of each node or rank.", min=0)] = None,
) -> None:
    """Print a job's logs.

    Logs of all nodes, or of one node or rank; of any attempt while its pods exist.
    """
    found = await cluster.job(job)
    if previous and attempt is not None:
        raise UsageError("--previous and --attempt both choose an attempt: leave out one of them.")
    pods = await _pods(cluster, found, attempt, previous)
    if rank is not None:
        node = _node_of(rank, found["spec"])
    chosen = [pod for pod in pods if node is None or _index(pod) == node]
    if not chosen:
        asked = f"Rank {rank} is on node {node}, which has no pod" if rank is not None else f"Node {node} has no pod"
        raise UsageError(f"{asked}: the attempt has pods of nodes {', '.join(str(_index(pod)) for pod in pods)}.")
    mark = f"[rank {rank}] " if rank is not None else ""
    calls = [_print(cluster, pod, mark, f"[node {_index(pod)}] " if len(chosen) > 1 else "", follow, tail) for pod in chosen]
    if follow:
        await asyncio.gather(*calls)
    elif not sum([await call for call in calls]):
        who = f"Rank {rank} of " if rank is not None else f"Node {node} of " if node is not None else ""
        say(f"{who}{job} has not printed anything yet. --follow waits for output.", err=True)


async def _pods(cluster: Access, job: Object, attempt: int | None, previous: bool) -> list[Object]:
    """The pods of one attempt. Raises ClusterError, with the recorded failure, if they are gone."""
    from llmtrain_operator.access.jobs import attempt_of, pods_of

    pods = await pods_of(cluster.client, cluster.namespace, job["metadata"]["name"])
    there = sorted({attempt_of(pod) for pod in pods})
    wanted = attempt if attempt is not None else (there[-1] if there else 0) - int(previous)
    chosen = [pod for pod in pods if attempt_of(pod) == wanted]
    if chosen:
        return chosen
    name, status = job["metadata"]["name"], job.get("status") or {}
    if not there:
        raise ClusterError(f"{name} has no pods{_words(status)} `llmtrain why {name}{cluster.here}` says more.")
    listed = ", ".join(map(str, there))
    raise ClusterError(f"Attempt {wanted} has no pods left; there are pods of attempt {listed}.{_failure(status, wanted)}")


def _words(status: dict[str, Any]) -> str:
    message = str(status.get("message") or "").rstrip(".")
    return f": {message}." if message else " yet."


def _failure(status: dict[str, Any], attempt: int) -> str:
    failure = status.get("failure") or {}
    return f" How it ended: {failure['message']}" if failure.get("attempt") == attempt and failure.get("message") else ""


def _index(pod: Object) -> int:
    from llmtrain_operator.access.jobs import index_of

    return index_of(pod)


def _node_of(rank: int, spec: dict[str, Any]) -> int:
    """The node of a rank; ranks are numbered node by node. Raises UsageError if the job has no such rank."""
    resources = spec.get("resources") or {}
    each = resources.get("gpusPerNode") or resources.get("procsPerNode") or 1
    nodes = resources.get("nodes") or 1
    if rank >= each * nodes:
        raise UsageError(f"--rank {rank}: the job has ranks 0 to {each * nodes - 1}, {each} on each of {nodes} nodes.")
    return int(rank // each)


async def _print(cluster: Access, pod: Object, mark: str, prefix: str, follow: bool, tail: int | None) -> int:
    """Print one pod's log: the lines that begin with `mark`, each after `prefix`. Returns the number of lines."""
    query = {"container": "trainer"} | ({"follow": "true"} if follow else {})
    if tail is not None and not mark:
        query["tailLines"] = str(tail)  # with a mark the API server cannot know which lines count
    lines = _marked(_lines(cluster, pod, query, follow), mark)
    if tail is not None and mark:
        lines = _last(lines, tail)
    count = 0
    async for line in lines:
        count += 1
        say(prefix + line.removeprefix(prefix.encode()).decode(errors="replace"))  # some lines have the prefix already
    return count


async def _lines(cluster: Access, pod: Object, query: dict[str, str], follow: bool) -> AsyncIterator[bytes]:
    """The lines of the pod's container. With `follow`, wait for a container that has not started."""
    from llmtrain_operator.kube.api.client import ApiError, path_of

    path = path_of("v1", "Pod", cluster.namespace, pod["metadata"]["name"], "log")
    while True:
        try:
            async for line in cluster.client.lines(path, **query):
                yield line
            return
        except ApiError as error:
            if error.code == 404 and follow:
                return  # the pod was deleted while its log was followed
            if error.code != 400 or not _NOT_YET.search(error.message):
                raise
            if not follow:
                raise ClusterError(f"Pod {pod['metadata']['name']} has not started: {error.message}.") from error
        await asyncio.sleep(SECONDS_BETWEEN_LOOKS)


async def _marked(lines: AsyncIterator[bytes], mark: str) -> AsyncIterator[bytes]:
    async for line in lines:
        if line.startswith(mark.encode()):
            yield line.removeprefix(mark.encode())


async def _last(lines: AsyncIterator[bytes], count: int) -> AsyncIterator[bytes]:
    """The last `count` of the existing lines, then all later ones."""
    kept: deque[bytes] = deque(maxlen=count)
    coming = asyncio.ensure_future(anext(lines, None))
    while True:
        done, _ = await asyncio.wait([coming], timeout=QUIET_SECONDS)
        if not done:
            break
        line = coming.result()
        if line is None:
            break
        kept.append(line)
        coming = asyncio.ensure_future(anext(lines, None))
    for line in kept:
        yield line
    while (line := await coming) is not None:
        yield line
        coming = asyncio.ensure_future(anext(lines, None))
