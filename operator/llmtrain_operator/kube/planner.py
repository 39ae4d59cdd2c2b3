"""The plan of each job, made once a generation. Called by observe for every reconcile.

Planning is pure, yet the model's shape may have to be read from a hub or a store: shapes.py does that in threads and with a deadline, so
that a job whose source hangs holds up no other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from llmtrain_operator.job.feasible import feasible
from llmtrain_operator.job.parse import ManifestError, parse_object
from llmtrain_operator.job.plan import Plan
from llmtrain_operator.job.problem import PlanError
from llmtrain_operator.job.spec import LLMTrainJob
from llmtrain_operator.kube.client import Object
from llmtrain_operator.kube.shapes import Shapes, is_remote

READ_SECONDS = 20.0
"""How long a source may take."""

REFUSED_SECONDS = 60.0
"""A refusal that rests on a source outside the manifest is thought over after this long."""

REMEMBERED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan, or the sentences that say why there is none."""

    job: LLMTrainJob | None
    plan: Plan | None
    refusal: str | None


class StillReadingError(Exception):
    """The source of the model has not answered yet. The job is woken when it has, or when its time is up."""


class Planner:
    """Remembers plans by the job's uid and generation. `wake` is told the namespace and name of a job whose source has answered."""

    def __init__(
        self,
        shapes: Shapes | None = None,
        clock: Callable[[], float] = time.monotonic,
        within: float = READ_SECONDS,
        wake: Callable[[tuple[str, str]], None] = lambda _: None,
    ) -> None:
        self._shapes, self._clock, self._within, self._wake = shapes or Shapes(), clock, within, wake
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._known: dict[str, tuple[int, float, Planned]] = {}  # uid -> generation, valid until, plan

    async def plan(self, manifest: Object) -> Planned:
        """The plan of a job as the API server returned it. Never raises for what stands in the manifest."""
        uid, generation = _version(manifest)
        known = self._known.pop(uid, None)
        if known is None or not self._holds(known, generation):
            planned, lasts = await self._make(manifest)
            known = (generation, self._clock() + lasts, planned)
        self._known[uid] = known
        while len(self._known) > REMEMBERED:
            self._known.pop(next(iter(self._known)))
        return known[2]

    async def plan_now(self, manifest: Object) -> Planned:
        """The same without waiting. Raises StillReadingError where the source must be read first: that is begun, and holds up no worker."""
        uid, generation = _version(manifest)
        known = self._known.get(uid)
        if (known is None or not self._holds(known, generation)) and _model_is_remote(manifest):
            if uid not in self._reading:
                self._reading[uid] = asyncio.create_task(self._read(uid, manifest))
            raise StillReadingError
        return await self.plan(manifest)

    async def _read(self, uid: str, manifest: Object) -> None:
        try:
            await self.plan(manifest)
        finally:
            del self._reading[uid]
            self._wake((manifest["metadata"].get("namespace") or "", manifest["metadata"]["name"]))

    def _holds(self, known: tuple[int, float, Planned], generation: int) -> bool:
        return known[0] == generation and known[1] >= self._clock()

    async def _make(self, manifest: Object) -> tuple[Planned, float]:
        """The plan and for how many seconds it holds."""
        try:
            job = parse_object(manifest)
        except ManifestError as error:
            return _refused(None, error), float("inf")
        inline = job.spec.model.config is not None
        try:
            made = feasible(job, await self._shapes.within(job.spec.model, self._within))
        except PlanError as error:
            return _refused(job, error), float("inf") if inline else REFUSED_SECONDS
        return Planned(job=job, plan=made, refusal=None), float("inf")


def _version(manifest: Object) -> tuple[str, int]:
    return str(manifest["metadata"].get("uid")), int(manifest["metadata"].get("generation") or 0)


def _model_is_remote(manifest: Object) -> bool:
    try:
        return is_remote(parse_object(manifest).spec.model)
    except ManifestError:
        return False


def _refused(job: LLMTrainJob | None, error: ManifestError | PlanError) -> Planned:
    return Planned(job=job, plan=None, refusal=" ".join(str(problem) for problem in error.problems))
