"""`llmtrain suspend`, `resume` and `delete`: they change the job object; the operator does the rest."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

import typer

from llmtrain_operator.api.phases import FINAL
from llmtrain_operator.cli.on_cluster.access import Access, JobArgument, on_cluster
from llmtrain_operator.cli.refusal import NOT_ENDED, ClusterError
from llmtrain_operator.cli.say import say

SECONDS_BETWEEN_LOOKS = 1.0

WaitOption = Annotated[bool, typer.Option("--wait", help="Wait until it is done.")]
WithinOption = Annotated[float, typer.Option("--timeout", help="Seconds to wait; 0 waits without limit.", min=0)]


@on_cluster
async def suspend(cluster: Access, job: JobArgument, wait: WaitOption = False, within: WithinOption = 0) -> int | None:
    """Suspend a job.

    Its pods save a checkpoint and end, which frees the devices. Exit codes with --wait: 0 it is suspended, 5 not in time.
    """
    found = await _want(cluster, await _changeable(cluster, job, suspend=True), suspend=True)
    if not wait:
        done = "is already suspended" if _is(found, "Suspended") else "saves a checkpoint and stops"
        say(f"{job} {done}. `llmtrain resume {job}{cluster.here}` resumes it from there.")
        return None
    until = _Deadline(within)
    while not _is(found := await cluster.job(job), "Suspended"):
        if phase := _final(found):
            say(f"{job} is {phase}: it ended before it was suspended.")
            return None
        if not await until.next_look():
            say(f"{job} is not suspended yet: {_status(found).get('message') or 'the operator has not reported a status.'}", err=True)
            return NOT_ENDED
    step = (_status(found).get("checkpoint") or {}).get("step")
    say(f"{job} is suspended; {f'step {step} is saved' if step is not None else 'no checkpoint is saved'}.")
    return None


@on_cluster
async def resume(cluster: Access, job: JobArgument) -> None:
    """Resume a suspended job.

    Training resumes from the last verified checkpoint.
    """
    before = await _changeable(cluster, job, suspend=False)
    if not before["spec"].get("suspend"):
        say(f"{job} is not suspended: it is {_status(before).get('phase') or 'not processed by an operator yet'}.")
        return
    found = await _want(cluster, before, suspend=False)
    step = (_status(found).get("checkpoint") or {}).get("step")
    say(f"{job} resumes {f'from step {step}' if step is not None else 'from step 0: it has no checkpoint'}.")


@on_cluster
async def delete(cluster: Access, job: JobArgument, wait: WaitOption = False, within: WithinOption = 0) -> int | None:
    """Delete a job.

    Its pods save a checkpoint and end; its checkpoints and exports are kept.
    """
    from llmtrain_operator.access.jobs import job_path, pods_of
    from llmtrain_operator.kube.api.client import path_to

    found = await cluster.job(job)
    uid = found["metadata"]["uid"]
    await cluster.client.delete(path_to(found), uid)
    say(f"{job} is deleted. {_remains(found)}")
    until = _Deadline(within)
    while wait:
        left = await cluster.client.get(job_path(cluster.namespace, job))
        pods = await pods_of(cluster.client, cluster.namespace, job)
        owned = [pod for pod in pods if any(owner.get("uid") == uid for owner in pod["metadata"].get("ownerReferences") or ())]
        if (left is None or left["metadata"]["uid"] != uid) and not owned:
            break
        if not await until.next_look():
            say(f"{len(owned)} of its pods are still running.", err=True)
            return NOT_ENDED
    return None


async def _changeable(cluster: Access, name: str, *, suspend: bool) -> dict[str, Any]:
    """The job. Raises ClusterError if it has ended."""
    found = await cluster.job(name)
    if phase := _final(found):
        raise ClusterError(f"{name} is {phase}, and that is final: it cannot be {'suspended' if suspend else 'resumed'}.")
    return found


async def _want(cluster: Access, job: dict[str, Any], *, suspend: bool) -> dict[str, Any]:
    """The job with spec.suspend set."""
    from llmtrain_operator.kube.api.client import path_to

    if bool(job["spec"].get("suspend")) is suspend:
        return job
    return await cluster.client.merge(path_to(job), {"spec": {"suspend": suspend}})


def _remains(job: dict[str, Any]) -> str:
    """One sentence on what is kept after the job."""
    destination = ((job.get("spec") or {}).get("checkpoint") or {}).get("destination")
    if destination is None:
        return "It had no checkpoint destination, so nothing of it remains."
    step = (_status(job).get("checkpoint") or {}).get("step")
    saves = _status(job).get("phase") in ("Starting", "Running", "Restarting", "Suspending")  # one more than in its status
    newest = f", the newest of step {step}," if step is not None and not saves else ""
    return f"Its checkpoints{newest} are kept at {destination}: llmtrain checkpoints list --destination {destination}"


def _is(job: dict[str, Any], phase: str) -> bool:
    """Whether the operator reports the phase for the current manifest."""
    status = _status(job)
    return status.get("phase") == phase and status.get("observedGeneration") == job["metadata"]["generation"]


def _final(job: dict[str, Any]) -> str | None:
    phase = _status(job).get("phase")
    return phase if phase in FINAL else None


def _status(job: dict[str, Any]) -> dict[str, Any]:
    return job.get("status") or {}


class _Deadline:
    """A time limit for polling."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds if seconds else float("inf")

    async def next_look(self) -> bool:
        """Wait until the next poll; False if the time is up."""
        if time.monotonic() >= self._end:
            return False
        await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
        return True
