"""The plan of each job, made once per generation.

Planning is pure and runs in a separate process (judge.py). shapes.py reads the model's shape from a hub or a store, in threads and with a
deadline. A job whose plan or source hangs delays no other job.
"""

from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import Callable
from typing import cast

from llmtrain_operator.kube.api.client import Object
from llmtrain_operator.kube.judging.judge import Here, Judges, NoJudgementError
from llmtrain_operator.kube.judging.judgement import Outcome, Planned, Unshaped, key_of, not_planned
from llmtrain_operator.kube.judging.shapes import Shapes
from llmtrain_operator.manifest.problem import PlanError
from llmtrain_trainer.config import Model

__all__ = ["Planned", "Planner", "StillReadingError"]

READ_SECONDS = 20.0
"""Seconds that reading a source may take."""

REFUSED_SECONDS = 60.0
"""Seconds after which a refusal that depends on a source outside the manifest is checked again."""

FAILED_SECONDS = (60.0, 600.0, 6 * 3600.0)
"""Seconds after which a manifest whose planning failed is planned again, the first time and later: the machine may have been busy."""

REMEMBERED = 10_000


class StillReadingError(Exception):
    """The source of the model has not answered yet. The job is queued again when it has, or on a timeout."""


class Planner:
    """Caches plans by the job's uid and generation. `wake` is called with namespace and name of a job whose source has answered."""

    def __init__(
        self,
        shapes: Shapes | None = None,
        clock: Callable[[], float] = time.monotonic,
        within: float = READ_SECONDS,
        wake: Callable[[tuple[str, str]], None] = lambda _: None,
        judges: Judges | None = None,
    ) -> None:
        self._judges = judges or Here()
        self._shapes, self._clock, self._within, self._wake = shapes or Shapes(), clock, within, wake
        self._reading: dict[str, asyncio.Task[None]] = {}
        # uid -> generation, valid until, plan; pickled, it takes a fifth of its objects' memory
        self._known: dict[str, tuple[int, float, bytes]] = {}
        self._failed: dict[str, int] = {}  # uid -> judgements that failed in a row

    async def plan(self, manifest: Object) -> Planned:
        """The plan of a job as the API server returned it. Never raises because of the manifest."""
        uid, generation = _version(manifest)
        known = self._known.pop(uid, None)
        if known is None or not self._holds(known, generation):
            planned, lasts = await self._make(manifest)
            known = (generation, self._clock() + lasts, pickle.dumps(planned))
        self._known[uid] = known
        while len(self._known) > REMEMBERED:
            gone = next(iter(self._known))
            self._known.pop(gone)
            self._failed.pop(gone, None)
        return cast("Planned", pickle.loads(known[2]))

    async def plan_now(self, manifest: Object) -> Planned:
        """The plan, without waiting. Raises StillReadingError if the source must be read first; reading then starts in the background."""
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

    def _holds(self, known: tuple[int, float, bytes], generation: int) -> bool:
        return known[0] == generation and known[1] >= self._clock()

    async def _make(self, manifest: Object) -> tuple[Planned, float]:
        """The plan, and the seconds for which it is valid."""
        uid = _version(manifest)[0]
        shapes: dict[tuple[str, str | None], Outcome] = {}
        try:
            while isinstance(found := await self._judges.ask("planned", manifest, shapes), Unshaped):
                shapes[key_of(found.model)] = await self._outcome(found.model)
        except NoJudgementError as error:
            tries = self._failed[uid] = min(self._failed.get(uid, 0) + 1, len(FAILED_SECONDS))
            return Planned(job=None, plan=None, refusal=not_planned(str(error))), FAILED_SECONDS[tries - 1]
        self._failed.pop(uid, None)
        return found, REFUSED_SECONDS if found.refusal is not None and shapes else float("inf")

    async def _outcome(self, model: Model) -> Outcome:
        try:
            return await self._shapes.within(model, self._within)
        except PlanError as error:
            return error


def _version(manifest: Object) -> tuple[str, int]:
    return str(manifest["metadata"].get("uid")), int(manifest["metadata"].get("generation") or 0)


def _model_is_remote(manifest: Object) -> bool:
    """Whether the source must be read; decided by the source alone, so that a manifest with other problems does not wait longer."""
    spec = manifest.get("spec")
    model = spec.get("model") if isinstance(spec, dict) else None
    source = model.get("source") if isinstance(model, dict) and model.get("config") is None else None
    return isinstance(source, str) and source.startswith(("hf://", "s3://"))
