"""`llmtrain watch`: the live view of local runs, for a job on a cluster. It ends with the job; the exit code tells how the job ended.

The data comes from the job's status, and from the agent of node 0 if the API server lets the person reach it. The status is written every
15 seconds; the agent reports each step.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated

import typer

from llmtrain_operator.api.phases import FINAL
from llmtrain_operator.cli.on_cluster.access import Access, JobArgument, on_cluster
from llmtrain_operator.cli.refusal import FAILED, NOT_ENDED
from llmtrain_operator.cli.running import view_titled

if TYPE_CHECKING:
    from llmtrain_operator.kube.api.client import Object
    from llmtrain_operator.local.view import View
    from llmtrain_trainer.config import NodeStatus

SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_OF_QUIET = 5.0
"""Seconds until an agent that did not answer is asked again: if the network drops packets, each request costs seconds."""

TROUBLE = (0, 429, 500, 502, 503, 504)
"""Codes of an API server that is overloaded or away; 0 is no answer."""


@on_cluster
async def watch(
    cluster: Access,
    job: JobArgument,
    plain: Annotated[bool, typer.Option("--plain", help="Print lines instead of the live view.")] = False,
    within: Annotated[float, typer.Option("--timeout", help="Seconds to watch; 0 watches until the job ends.", min=0)] = 0,
) -> int:
    """Watch a job until it ends.

    Exit codes: 0 it is Complete, 1 it Failed, 5 it was deleted or the time is up.
    """
    from llmtrain_operator.cli.on_cluster.job_snapshot import Story, title

    found = await cluster.job(job)
    story, end = Story(), time.monotonic() + within if within else float("inf")
    view, ask_at = view_titled(title(found), plain=plain), 0.0
    with view:
        while True:
            leader = None
            if time.monotonic() >= ask_at and (leader := await _leader(cluster, found)) is None:
                ask_at = time.monotonic() + SECONDS_OF_QUIET
            view.show(story.go_on(found, leader, time.time()))
            if (phase := _phase(found)) in FINAL:
                break
            if time.monotonic() >= end:
                view.say(f"{job} is still {phase or 'not processed by an operator'}; the time is up.")
                return NOT_ENDED
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
            newer = await _next(cluster, found, view)
            if newer is None:
                view.say(f"{job} was deleted.")
                return NOT_ENDED
            found = newer
    for line in _closing(found, cluster.here):
        view.say(line)
    return FAILED if phase == "Failed" else 0


async def _next(cluster: Access, before: Object, view: View) -> Object | None:
    """The job as it is now; None if it is gone. If the API server does not answer, retry: training continues without it."""
    from llmtrain_operator.kube.api.client import ApiError, path_to

    told = False
    while True:
        try:
            found = await cluster.client.get(path_to(before))
            return found if found is not None and found["metadata"]["uid"] == before["metadata"]["uid"] else None
        except ApiError as error:
            if error.code not in TROUBLE:
                raise
            if not told:
                view.say(f"The API server does not answer ({error.message}); retrying.")
            told = True
        await asyncio.sleep(SECONDS_BETWEEN_LOOKS)


async def _leader(cluster: Access, job: Object) -> NodeStatus | None:
    """The status of node 0's agent; None if it cannot be reached, which is not an error."""
    from llmtrain_operator.access.inspect_job import ask_leader

    attempt = (job.get("status") or {}).get("attempt")
    if attempt is None or _phase(job) not in ("Starting", "Running", "Restarting", "Suspending"):
        return None
    return await ask_leader(cluster.http, cluster.server, cluster.namespace, job["metadata"]["name"], attempt)


def _phase(job: Object) -> str | None:
    phase: str | None = (job.get("status") or {}).get("phase")
    return phase


def _closing(job: Object, here: str) -> list[str]:
    """The closing lines: checkpoint, artifacts, notices; and where to look if it failed."""
    name, status = job["metadata"]["name"], job.get("status") or {}
    lines = []
    if checkpoint := status.get("checkpoint"):
        lines.append(f"checkpoint  step {checkpoint['step']}: {checkpoint['uri']}")
    lines += [f"{artifact['kind']:<10}  {artifact['uri']}" for artifact in status.get("artifacts") or ()]
    lines += [f"notice      {sentence}" for sentence in status.get("notices") or ()]
    if status["phase"] == "Failed":
        lines.append(f"`llmtrain why {name}{here}` shows the evidence.")
    return lines
