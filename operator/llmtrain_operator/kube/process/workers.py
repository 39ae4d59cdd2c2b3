"""Workers: each takes a key from the queue and has the controller of its kind reconcile the object."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping

from llmtrain_operator.kube.api.client import ApiError
from llmtrain_operator.kube.judging.planner import StillReadingError
from llmtrain_operator.kube.kind import Controller
from llmtrain_operator.kube.metrics.operator import OperatorMetrics
from llmtrain_operator.kube.names import Key
from llmtrain_operator.kube.process.queue import WorkQueue

log = logging.getLogger(__name__)

READING = 600.0
"""Seconds after which an object is looked at again whose source has not answered."""


async def work(queue: WorkQueue[Key], controllers: Mapping[str, Controller], metrics: OperatorMetrics, may: Callable[[], bool]) -> None:
    """One worker, until the queue is closed. `controllers` are by kind; `may` says whether this replica still leads."""
    while (key := await queue.get()) is not None:
        start, result = time.monotonic(), "done"
        try:
            if not may():
                queue.add_after(key, 1.0)
                continue
            await work_on(key, queue, controllers, random.uniform(0.9, 1.1))
        except StillReadingError:
            result = "reading"
            queue.add_after(key, READING)
        except Exception as error:  # an object must never end the worker: whatever it was, it is tried again, later each time
            result = "failed"
            log.warning("%s is tried again in %.1f s: %s", key, queue.failed(key), error, exc_info=not isinstance(error, ApiError))
        finally:
            queue.done(key)
            metrics.reconciles.labels(result).observe(time.monotonic() - start)


async def work_on(key: Key, queue: WorkQueue[Key], controllers: Mapping[str, Controller], spread: float = 1.0) -> None:
    """Reconcile one object, and queue it for the next time. Raises whatever the controller raises."""
    again = await controllers[key.kind].reconcile((key.namespace, key.name))
    queue.succeeded(key)
    if again is None:
        queue.forget(key)
    else:
        queue.add_after(key, again * spread)
