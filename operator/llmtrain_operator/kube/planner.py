"""The plan of each job, made once a generation. Called by observe for every reconcile.

Planning is pure, yet the model's shape may have to be read from a hub or a store: shapes.py does that in threads and with a deadline, so
that a job whose source hangs holds up no other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from llmtrain_operator.job.feasible import feasible
from llmtrain_operator.job.parse import ManifestError, parse_object
from llmtrain_operator.job.plan import Plan
from llmtrain_operator.job.problem import PlanError
from llmtrain_operator.job.spec import LLMTrainJob
from llmtrain_operator.kube.client import Object
from llmtrain_operator.kube.shapes import Shapes

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


class Planner:
    """Remembers plans by the job's uid and generation."""

    def __init__(self, shapes: Shapes | None = None, clock: Callable[[], float] = time.monotonic, within: float = READ_SECONDS) -> None:
        self._shapes, self._clock, self._within = shapes or Shapes(), clock, within
        self._known: dict[str, tuple[int, float, Planned]] = {}  # uid -> generation, valid until, plan

    async def plan(self, manifest: Object) -> Planned:
        """The plan of a job as the API server returned it. Never raises for what stands in the manifest."""
        uid, generation = str(manifest["metadata"].get("uid")), int(manifest["metadata"].get("generation") or 0)
        known = self._known.pop(uid, None)
        if known is None or known[0] != generation or known[1] < self._clock():
            planned, lasts = await self._make(manifest)
            known = (generation, self._clock() + lasts, planned)
        self._known[uid] = known
        while len(self._known) > REMEMBERED:
            self._known.pop(next(iter(self._known)))
        return known[2]

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


def _refused(job: LLMTrainJob | None, error: ManifestError | PlanError) -> Planned:
    return Planned(job=job, plan=None, refusal=" ".join(str(problem) for problem in error.problems))
