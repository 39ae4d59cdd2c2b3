"""`llmtrain why`: one sentence on the state of a job, then the evidence. It reads the objects itself and needs no running operator."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from llmtrain_operator.cli.on_cluster.access import Access, JobArgument, on_cluster
from llmtrain_operator.cli.say import say

if TYPE_CHECKING:
    from llmtrain_operator.access.inspect_job import Inspection
    from llmtrain_operator.kube.api.client import Object

MOST_EVENTS = 8
LONGEST = 300
"""Characters of an event or of a pod's message."""


@on_cluster
async def why(cluster: Access, job: JobArgument) -> None:
    """Say why a job is not running.

    Prints one sentence, what to do, then the evidence: failures, pods, queue, events.
    """
    from llmtrain_operator.access.inspect_job import inspect_job

    seen = await inspect_job(cluster.lenient(), cluster.http, cluster.server, cluster.namespace, job)
    if seen is None:
        await cluster.job(job)  # raises, with the nearest name
    else:
        say("\n".join(report(seen, time.time())))


def report(seen: Inspection, now: float) -> list[str]:
    """All lines of the answer."""
    from llmtrain_operator.cli.on_cluster.job_table import aligned
    from llmtrain_operator.life.explain import pods, rows, state_of

    observed = seen.observation.observed
    state = state_of(observed, seen.operator)
    lines = [f"{observed.job.name} is {state.phase}: {state.sentence}", ""]
    head, listed = pods(observed)
    lines += aligned([*rows(observed, state, seen.operator), ("pods", head)])
    lines += _indented([(name, phase, node, short(said)) for name, phase, node, said in listed])
    if seen.events:
        lines.append("events")
        lines += _indented([_event(event, now) for event in seen.events[-MOST_EVENTS:]])
    return lines


def short(text: str) -> str:
    """The text on one line, truncated to LONGEST characters."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 3] + "..."


def _event(event: Object, now: float) -> tuple[str, ...]:
    from llmtrain_operator.life.from_objects import time_of_event
    from llmtrain_trainer.config.formats import span

    at = time_of_event(event)
    about = str(event["involvedObject"].get("name"))
    return (f"{span(now - at)} ago" if at else "-", str(event.get("reason")), about, short(str(event.get("message") or "")))


def _indented(rows: list[tuple[str, ...]]) -> list[str]:
    from llmtrain_operator.cli.on_cluster.job_table import aligned

    return [f"  {line}" for line in aligned(rows)] if rows else []
