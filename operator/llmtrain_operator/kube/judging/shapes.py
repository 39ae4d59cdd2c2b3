"""Shapes of models on a hub or in a bucket, read in a few threads and cached for a while.

A source is read once for all jobs that name it. A source that hangs occupies one thread and delays nothing else.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from llmtrain_operator.kube.judging.judgement import Outcome, is_remote, key_of
from llmtrain_operator.manifest.divisors import listed
from llmtrain_operator.manifest.problem import NotKnownError, PlanError, Problem
from llmtrain_operator.plan.model.shape import ModelShape
from llmtrain_operator.sources import read_shape
from llmtrain_trainer.config import Model

READERS = 8
"""Sources that are read concurrently."""

KNOWN_SECONDS = 600.0
"""Seconds for which a shape is cached: a branch on a hub can change."""

UNKNOWN_SECONDS = 60.0
"""Seconds after which a source that could not be read is read again."""

REMEMBERED = 10_000

EVERYWHERE = ("hf://", "s3://")


class Shapes:
    """Cached answers of sources. `now` may be called in any thread, `within` in the event loop's."""

    def __init__(
        self,
        read: Callable[[Model], ModelShape | None] = read_shape,
        clock: Callable[[], float] = time.monotonic,
        below: Sequence[str] = EVERYWHERE,
    ) -> None:
        self._read, self._clock, self._below = read, clock, tuple(below)
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="shape")
        self._lock = threading.Lock()
        self._asked: dict[tuple[str, str | None], tuple[Future[Outcome], float]] = {}  # -> what is read, and since when

    async def within(self, model: Model, seconds: float) -> ModelShape | None:
        """The shape; None if it cannot be read in time. Raises PlanError if the source has none, or may not be read."""
        if not is_remote(model):
            return self._own(model)
        self._check(model)
        future = self._ask(model)
        await asyncio.wait([asyncio.wrap_future(future)], timeout=seconds)
        return _result(future) if future.done() else None

    def now(self, model: Model) -> ModelShape | None:
        """The shape without waiting; starts to read a source that was not read yet.

        None if the shape can never be known here. Raises PlanError if the manifest's own shape is wrong, NotKnownError if the source has
        not answered yet, or failed.
        """
        if not is_remote(model):
            return self._own(model)
        self._check(model)
        future = self._ask(model)
        if not future.done():
            raise NotKnownError(f"spec.model.source is {model.source}: its config.json is being read.")
        try:
            found = _result(future)
        except PlanError as error:
            raise NotKnownError(str(error)) from error
        if found is None:
            raise NotKnownError(f"spec.model.source is {model.source}: its config.json cannot be reached now.")
        return found

    def close(self) -> None:
        """Stop without waiting for threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _check(self, model: Model) -> None:
        """Raises PlanError for a source that the administrator does not allow the operator to read with its own identity."""
        source = model.source or ""
        if not any(f"{source}/".startswith(f"{prefix.rstrip('/')}/") for prefix in self._below):
            allowed = listed(self._below) if self._below else "nowhere"
            rule = f"the administrator of the cluster lets the operator read models {'below ' if self._below else ''}{allowed}"
            way_out = "Use a model there, give spec.model.config, or ask the administrator to extend the chart's value sources"
            raise PlanError([Problem("spec.model.source", source, rule, way_out)])

    def _own(self, model: Model) -> ModelShape | None:
        """From the manifest. A file:// or pvc:// source is the pod's: the operator's own files are never read for a job."""
        return self._read(model) if model.config is not None else None

    def _ask(self, model: Model) -> Future[Outcome]:
        key, now = key_of(model), self._clock()
        with self._lock:
            known = self._asked.pop(key, None)
            if known is None or _stale(known[0], now - known[1]):
                known = (self._threads.submit(self._outcome, model), now)
            self._asked[key] = known
            while len(self._asked) > REMEMBERED:
                self._asked.pop(next(iter(self._asked)))
        return known[0]

    def _outcome(self, model: Model) -> Outcome:
        """The outcome, which may be an error: nobody may be waiting for it any more."""
        try:
            return self._read(model)
        except Exception as error:  # raised to every caller
            return error


def _stale(read: Future[Outcome], age: float) -> bool:
    return read.done() and age > (KNOWN_SECONDS if isinstance(read.result(), ModelShape) else UNKNOWN_SECONDS)


def _result(read: Future[Outcome]) -> ModelShape | None:
    found = read.result()
    if isinstance(found, Exception):
        raise found
    return found
