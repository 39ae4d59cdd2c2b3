"""The kind LLMTrainJob: what is watched for a job, and what its controller is made of."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from llmtrain_operator.kube.api.events import Recorder
from llmtrain_operator.kube.gangs.detect import GangApis
from llmtrain_operator.kube.jobs.checkpoint_owners import DestinationOwners
from llmtrain_operator.kube.jobs.placement_order import Turns
from llmtrain_operator.kube.jobs.reconcile import Reconciler
from llmtrain_operator.kube.judging.judge import Judge
from llmtrain_operator.kube.judging.planner import Planner
from llmtrain_operator.kube.kind import Controller, Follow, Kind, Leading
from llmtrain_operator.kube.observe.agents import CONNECTIONS, Agents
from llmtrain_operator.kube.observe.observe import Observer
from llmtrain_operator.kube.resources import JOBS
from llmtrain_operator.life.from_objects import LABEL_JOB


@asynccontextmanager
async def _begin(leading: Leading) -> AsyncIterator[Controller]:
    judge, look = Judge(), leading.look
    planner, turns, destinations = Planner(leading.shapes, wake=look, judges=judge), Turns(look), DestinationOwners(look)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as http:
        observer = Observer(leading.client, Agents(http, wake=look), planner, await GangApis.of(leading.client))
        recorder = Recorder(leading.client, leading.metrics, leading.identity)
        try:
            yield Reconciler(leading.client, observer, recorder, leading.metrics, leading.settings, turns, destinations)
        finally:
            await judge.close()


KIND = Kind(resource=JOBS, follows=(Follow(version="v1", kind="Pod", plural="pods", label=LABEL_JOB),), begin=_begin)
