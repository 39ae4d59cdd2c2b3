"""`llmtrain get`: the jobs of a cluster as a table, or as the API server returns them."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Annotated, Any, Literal

import typer

from llmtrain_operator.cli.on_cluster.access import Access, on_cluster
from llmtrain_operator.cli.refusal import UsageError
from llmtrain_operator.cli.say import say

SECONDS_BETWEEN_LOOKS = 2.0
Jobs = list[dict[str, Any]]


@on_cluster
async def get(
    cluster: Access,
    job: Annotated[str | None, typer.Argument(help="Name of one job. Default: all jobs of the namespace.", metavar="[JOB]")] = None,
    output: Annotated[Literal["table", "wide", "json", "yaml", "name"], typer.Option("--output", "-o", help="How to print it.")] = "table",
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Show the jobs of every namespace.")] = False,
    selector: Annotated[str | None, typer.Option("--selector", "-l", help="Show jobs with these labels only, such as team=a.")] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep watching, and print a job again when it changes.")] = False,
) -> None:
    """List jobs.

    Shows phase, steps, loss, speed, goodput, restarts, age of the last checkpoint.
    """
    if job is not None and (all_namespaces or selector):
        raise UsageError("A job's name cannot be combined with -A or -l: leave out the options, or leave out the name.")
    if watch and output not in ("table", "wide"):
        raise UsageError(f"-w prints lines: leave out -o {output}, or use -o wide.")
    jobs = await _look(cluster, job, all_namespaces, selector)
    if output not in ("table", "wide"):
        say(_whole(jobs, output, single=job is not None))
        return
    say("\n".join(_lines(jobs, output, all_namespaces)) if jobs or watch else _nothing(cluster, all_namespaces))
    while watch:
        seen = {found["metadata"]["uid"]: found["metadata"]["resourceVersion"] for found in jobs}
        await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
        jobs = await _look(cluster, job, all_namespaces, selector)
        news = [found for found in jobs if seen.get(found["metadata"]["uid"]) != found["metadata"]["resourceVersion"]]
        for line in _lines(news, output, all_namespaces)[1:]:
            say(line)


async def _look(cluster: Access, job: str | None, everywhere: bool, selector: str | None) -> Jobs:
    from llmtrain_operator.access.jobs import list_jobs

    if job is not None:
        return [await cluster.job(job)]
    return await list_jobs(cluster.client, None if everywhere else cluster.namespace, **({"labelSelector": selector} if selector else {}))


def _lines(jobs: Jobs, output: str, everywhere: bool) -> list[str]:
    from llmtrain_operator.cli.on_cluster.job_table import table

    return table(jobs, time.time(), wide=output == "wide", namespaces=everywhere)


def _nothing(cluster: Access, everywhere: bool) -> str:
    where = "this cluster" if everywhere else f"namespace {cluster.namespace}"
    return f"There are no jobs in {where}. Next: llmtrain submit -f job.yaml"


def _whole(jobs: Jobs, output: str, *, single: bool) -> str:
    """As kubectl prints them: one object, or a List of them; without managedFields."""
    for job in jobs:
        job["metadata"].pop("managedFields", None)
    if output == "name":
        return "\n".join(f"llmtrainjob.llmtrain.io/{job['metadata']['name']}" for job in jobs)
    whole: Any = jobs[0] if single else {"apiVersion": "v1", "kind": "List", "items": jobs}
    if output == "json":
        return json.dumps(whole, indent=2)
    import yaml

    return yaml.safe_dump(whole, sort_keys=False, width=140).rstrip()
