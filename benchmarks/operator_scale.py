"""What the operator costs and how fast it is, on simulated nodes -> out/bench-operator.json. Run by `make bench-operator`.

Rounds: one job at a time of 1, 64 and 512 pods; 1,000 jobs of 4 pods at once, from apply to Complete, and fewer of them under the
operator's own order of gangs; good jobs alone and among odd ones; the 1,000 finished jobs left alone. The file is not called operator.py:
beside the other benchmarks that would shadow the standard library's module.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop
from loading import ROOT
from simulated import API, Simulated, counting, job, simulated_cluster
from tests.cluster.odd_jobs import odd_job
from tests.cluster.operators import Samples

from llmtrain_operator.kube.api.client import path_of

ROUNDS = ("latency", "turns", "odd", "burst", "idle")
OUT = ROOT / "out" / "bench-operator.json"
NODES = 512
SIZES = {1: 5, 64: 5, 512: 3}
"""Pods of a job -> how often it is measured."""

SETTLES = 5.0
"""Seconds in which the pods of a job come to run, with what the operator does meanwhile."""

ODD, GOOD = 1500, 40
APART = 0.5
"""Seconds between two good jobs."""

FLOOD, PACED = 8, 0.05
"""Clients that send odd jobs without a pause; seconds between two where one client sends them at a pace that leaves processors free."""

ADDED = b'"type":"ADDED"'
COMPLETE = b'"status":"True","type":"Complete"'


def main() -> None:
    """Run the rounds that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000, help="jobs at once (default: 1000)")
    parser.add_argument("--idle", type=float, default=60.0, help="seconds of watching the finished jobs (default: 60)")
    parser.add_argument("--round", action="append", choices=ROUNDS, help="only this round; may be given again")
    given = parser.parse_args()
    uvloop.run(measure(given.round or list(ROUNDS), given.jobs, given.idle))


async def measure(rounds: list[str], jobs: int, idle: float) -> None:
    """Every round in one cluster, each but the last with a fresh operator; what was measured is written after each."""
    found: dict[str, Any] = {"machine": f"{os.cpu_count()} cores, {platform.machine()}", "load": os.getloadavg()[0]}
    async with simulated_cluster(NODES) as simulated:
        made: dict[str, Callable[[], Awaitable[dict[str, Any]]]] = {
            "latency": lambda: latency(simulated),
            "turns": lambda: burst(simulated, "turns", jobs // 10, "auto"),
            "odd": lambda: odd_ones(simulated),
            "burst": lambda: burst(simulated, "burst", jobs, "none"),
            "idle": lambda: at_rest(simulated, idle),
        }
        for name in ROUNDS:
            if name in rounds:
                found[name] = await made[name]()
                OUT.parent.mkdir(exist_ok=True)
                OUT.write_text(json.dumps(found, indent=1) + "\n")
                print(name, json.dumps(found[name]), flush=True)


async def odd_ones(simulated: Simulated) -> dict[str, Any]:
    """Good jobs alone, among jobs that nobody should write, and among a flood of them."""
    found = {"alone": await among(simulated, "alone", 0)}
    found["paced"] = await among(simulated, "paced", round(GOOD * APART / PACED), pause=PACED)
    return found | {"flood": await among(simulated, "flood", ODD, clients=FLOOD)}


async def latency(simulated: Simulated) -> dict[str, Any]:
    """Seconds from sending a job until the last of its pods is created."""
    await simulated.namespace("latency")
    found: dict[str, Any] = {}
    for pods, times in SIZES.items():
        operator = await simulated.start_operator()
        taken: list[float] = []
        calls: dict[str, float] = {}
        cpu: list[float] = []
        for number in range(times):
            before, used = operator.samples(), operator.cpu_seconds()
            async with counting(simulated, path_of("v1", "Pod", "latency"), ADDED) as seen:
                start = time.perf_counter()
                await simulated.create([job("latency", f"job-{pods}-{number}", pods, 8)])
                taken.append(await seen.reach(pods, 120) - start)
            await asyncio.sleep(SETTLES)
            cpu.append(operator.cpu_seconds() - used)
            calls = _calls(before, operator.samples(), 1)
            await simulated.clear("latency")
        found[str(pods)] = {
            "seconds": round(statistics.median(taken), 3),
            "all": [round(one, 3) for one in taken],
            "cpu_seconds_until_all_run": round(statistics.median(cpu), 3),
            "calls_of_the_last_until_all_run": calls,
            "load": os.getloadavg()[0],
        }
    return found


async def burst(simulated: Simulated, namespace: str, jobs: int, gang: str) -> dict[str, Any]:
    """Many jobs of 4 pods at once, from the first apply until all are Complete."""
    await simulated.namespace(namespace)
    operator = await simulated.start_operator()
    before, server, cpu = operator.samples(), await simulated.api_server(), operator.cpu_seconds()
    made = [job(namespace, f"job-{number:04}", 4, 1, gang, "shortly") for number in range(jobs)]
    pods, done = path_of("v1", "Pod", namespace), path_of(API, "LLMTrainJob", namespace)
    async with counting(simulated, pods, ADDED) as created, counting(simulated, done, COMPLETE, whole=True) as complete:
        start = time.perf_counter()
        await simulated.create(made)
        applied = time.perf_counter() - start
        placed = await created.reach(4 * jobs, 900) - start
        ended = await complete.reach(jobs, 900) - start
    used, after = operator.cpu_seconds() - cpu, operator.samples()
    return {
        "jobs": jobs,
        "seconds_to_apply": round(applied, 2),
        "seconds_to_all_pods": round(placed, 2),
        "seconds_to_all_complete": round(ended, 2),
        "jobs_a_second": round(jobs / placed, 2),
        "calls_a_job": _calls(before, after, jobs),
        "calls_a_job_by_the_api_server": _calls_by_server(server, await simulated.api_server(), jobs),
        "reconciles_a_job": round(_sum(after, "llmtrain_reconcile_seconds_count") / jobs, 2),
        "cpu_seconds_a_job": round(used / jobs, 4),
        "peak_megabytes": round(operator.peak_bytes() / 1e6),
        "load": os.getloadavg()[0],
    }


async def among(simulated: Simulated, namespace: str, odd: int, clients: int = 1, pause: float = 0.0) -> dict[str, Any]:
    """Seconds from creating a good job of 2 pods until its last pod, one job each half second, while odd ones are created.

    `create` is what the API server took to answer the creation alone.
    """
    await simulated.namespace(namespace)
    await simulated.start_operator()
    sent: dict[str, float] = {}
    posted: list[float] = []
    answers: Counter[int] = Counter()
    crowd = asyncio.create_task(_odd_ones(simulated, namespace, odd, answers, clients, pause))
    async with counting(simulated, path_of("v1", "Pod", namespace), ADDED) as created:
        for number in range(GOOD):
            name = f"good-{number}"
            sent[name] = time.perf_counter()
            await simulated.create([job(namespace, name, 2, 1, "none")])
            posted.append(time.perf_counter() - sent[name])
            await asyncio.sleep(APART)
        async with asyncio.timeout(120):
            while not all(f"{name}-a1-1" in created.seen and f"{name}-a1-0" in created.seen for name in sent):
                created.changed.clear()
                await created.changed.wait()
    await crowd
    taken = sorted(max(created.seen[f"{name}-a1-{index}"] for index in (0, 1)) - start for name, start in sent.items())
    found: dict[str, Any] = {"median": round(statistics.median(taken), 3), "slowest": round(taken[-1], 3)}
    found |= {"create": round(statistics.median(posted), 3), "load": os.getloadavg()[0]}
    await simulated.clear(namespace)
    return found | {"odd_jobs_by_answer": {str(code): count for code, count in sorted(answers.items())}}


async def _odd_ones(simulated: Simulated, namespace: str, count: int, answers: Counter[int], clients: int, pause: float) -> None:
    """`clients` at a time, each with a pause after every job."""
    path = simulated.server + path_of(API, "LLMTrainJob", namespace)

    async def some(first: int) -> None:
        for number in range(first, count, clients):
            made = odd_job(job(namespace, "odd", 1, 1, "none"), number, 1)
            async with simulated.http.post(path, json=made, params={"fieldValidation": "Strict"}) as answer:
                answers[answer.status] += 1
            await asyncio.sleep(pause)

    await asyncio.gather(*map(some, range(clients)))


async def at_rest(simulated: Simulated, seconds: float) -> dict[str, Any]:
    """What jobs cost that are over."""
    operator = simulated.operator
    assert operator is not None, "the idle round looks at the jobs of the burst"
    await asyncio.sleep(10)
    before, cpu = operator.samples(), operator.cpu_seconds()
    await asyncio.sleep(seconds)
    used, after = operator.cpu_seconds() - cpu, operator.samples()
    return {
        "finished_jobs": len(await simulated.client.list(path_of(API, "LLMTrainJob"))),
        "cpu_seconds_a_minute": round(used * 60 / seconds, 3),
        "calls_a_minute": _calls(before, after, seconds / 60, of_jobs=False),
        "megabytes": round(operator.peak_bytes() / 1e6),
    }


def _calls(before: Samples, after: Samples, divisor: float, *, of_jobs: bool = True) -> dict[str, float]:
    """Requests by verb and resource; those for a job leave out the lease and the watches, which cost the same without any job."""
    found: Counter[str] = Counter()
    for (name, labels), value in after.items():
        if name != "llmtrain_api_request_seconds_count":
            continue
        told = dict(labels)
        if of_jobs and (told["resource"] == "leases" or told["verb"] == "WATCH"):
            continue
        found[f"{told['verb']} {told['resource']}"] += value - before.get((name, labels), 0.0)
    rates = {name: round(count / divisor, 2) for name, count in sorted(found.items()) if count}
    return {"all": round(sum(found.values()) / divisor, 2), **rates}


OURS = {("llmtrainjobs", "status"), ("pods", ""), ("services", ""), ("configmaps", ""), ("networkpolicies", "")}
OUR_VERBS = ("APPLY", "POST", "LIST")


def _calls_by_server(before: Samples, after: Samples, jobs: int) -> dict[str, float]:
    """What the API server counted of calls that only the operator makes: a check of its own count."""
    found: Counter[str] = Counter()
    for (name, labels), value in after.items():
        told = dict(labels)
        what = told.get("resource", ""), told.get("subresource", "")
        if name == "apiserver_request_total" and what in OURS and told["verb"] in OUR_VERBS and told["scope"] != "cluster":
            found[f"{told['verb']} {'/'.join(filter(None, what))}"] += value - before.get((name, labels), 0.0)
    return {name: round(count / jobs, 2) for name, count in sorted(found.items()) if count}


def _sum(samples: Samples, name: str) -> float:
    return sum(value for (found, _), value in samples.items() if found == name)


if __name__ == "__main__":
    main()
