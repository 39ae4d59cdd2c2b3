"""Workers: whatever a controller does, its object is looked at again and no other waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from llmtrain_operator.kube.api.client import ApiError
from llmtrain_operator.kube.judging.planner import StillReadingError
from llmtrain_operator.kube.metrics.operator import OperatorMetrics
from llmtrain_operator.kube.names import Key, ObjectName
from llmtrain_operator.kube.process.handlers import KnownObjects
from llmtrain_operator.kube.process.operator_process import ended, first_of
from llmtrain_operator.kube.process.queue import WorkQueue
from llmtrain_operator.kube.process.workers import READING, work, work_on


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Controlled:
    """A controller that answers as told, once for each entry of `answers`, and then closes the queue."""

    def __init__(self, queue: WorkQueue[Key], *answers: float | BaseException | None) -> None:
        self.queue, self.answers = queue, list(answers)
        self.seen: list[ObjectName] = []

    async def take_over(self, namespaces: Any) -> None:
        """Nothing is there."""

    async def reconcile(self, key: ObjectName) -> float | None:
        self.seen.append(key)
        answer = self.answers.pop(0)
        if not self.answers:
            self.queue.close()
        if isinstance(answer, BaseException):
            raise answer
        return answer


def key(name: str) -> Key:
    return Key("LLMTrainJob", "team", name)


def queue_at(clock: Callable[[], float]) -> WorkQueue[Key]:
    return WorkQueue(base=1.0, cap=100.0, clock=clock, jitter=lambda: 1.0)


def count(metrics: OperatorMetrics, result: str) -> float:
    found = metrics.registry.get_sample_value("llmtrain_reconcile_seconds_count", {"result": result})
    return found or 0.0


def until_due(queue: WorkQueue[Key], clock: Clock, seconds: float) -> tuple[Key | None, Key | None]:
    """The key just before its time, and at it."""
    clock.now += seconds - 0.01
    early = queue.take()
    clock.now += 0.02
    return early, queue.take()


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (5.0, "done"),
        (None, "done"),
        (StillReadingError("hf://acme/model is being read"), "reading"),
        (ApiError(500, "InternalError", "etcd is slow"), "failed"),
        (ZeroDivisionError("a mistake of ours"), "failed"),
    ],
    ids=["again", "gone", "reading", "refused", "mistake"],
)
async def test_no_end_of_a_reconcile_ends_its_worker_and_each_is_counted(answer: Any, result: str) -> None:
    queue, metrics = queue_at(Clock()), OperatorMetrics()
    controller = Controlled(queue, answer, None)
    queue.add(key("first"))
    queue.add(key("second"))
    await work(queue, {"LLMTrainJob": controller}, metrics, lambda: True)
    assert controller.seen == [("team", "first"), ("team", "second")]
    assert count(metrics, result) == (2 if result == "done" else 1) and queue.active == 0


@pytest.mark.parametrize("kind", ["LLMTrainJob", "Other"])
async def test_an_object_goes_to_the_controller_of_its_kind(kind: str) -> None:
    queue = queue_at(Clock())
    controllers = {name: Controlled(queue, None, None) for name in ("LLMTrainJob", "Other")}
    await work_on(Key(kind, "team", "one"), queue, controllers)
    assert {name: made.seen for name, made in controllers.items() if made.seen} == {kind: [("team", "one")]}


async def test_an_object_is_looked_at_again_when_its_controller_says() -> None:
    clock = Clock()
    queue = queue_at(clock)
    await work_on(key("one"), queue, {"LLMTrainJob": Controlled(queue, 20.0, None)}, spread=1.5)
    assert until_due(queue, clock, 30.0) == (None, key("one"))


async def test_an_object_that_is_gone_is_forgotten_with_its_failures() -> None:
    clock = Clock()
    queue = queue_at(clock)
    assert [queue.failed(key("one")) for _ in range(3)] == [1.0, 2.0, 4.0]
    await work_on(key("one"), queue, {"LLMTrainJob": Controlled(queue, None, None)})
    clock.now += 1000
    assert queue.take() is None and queue.failed(key("one")) == 1.0


async def test_a_reconcile_that_succeeds_ends_the_row_of_failures() -> None:
    queue = queue_at(Clock())
    assert [queue.failed(key("one")) for _ in range(2)] == [1.0, 2.0]
    await work_on(key("one"), queue, {"LLMTrainJob": Controlled(queue, 60.0, None)})
    assert queue.failed(key("one")) == 1.0


async def one_round(answer: BaseException, may: Callable[[], bool] = lambda: True) -> tuple[WorkQueue[Key], Clock, Controlled]:
    """A worker takes `one`, then the test takes its place."""
    clock = Clock()
    queue = queue_at(clock)
    controller = Controlled(queue, answer, answer, answer)
    queue.add(key("one"))
    worker = asyncio.create_task(work(queue, {"LLMTrainJob": controller}, OperatorMetrics(), may))
    for _ in range(20):
        await asyncio.sleep(0)
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    return queue, clock, controller


async def test_an_object_that_fails_is_tried_again_with_backoff() -> None:
    queue, clock, controller = await one_round(ApiError(0, "NoAnswer", "down"))
    assert len(controller.seen) == 1
    assert until_due(queue, clock, 1.0) == (None, key("one"))
    assert queue.failed(key("one")) == 2.0


async def test_a_source_that_is_being_read_is_no_failure_and_is_looked_at_again_late() -> None:
    queue, clock, _ = await one_round(StillReadingError("being read"))
    assert until_due(queue, clock, READING) == (None, key("one"))
    assert queue.failed(key("one")) == 1.0, "no failure was counted"


async def test_a_replica_that_does_not_lead_any_more_touches_nothing_and_forgets_nothing() -> None:
    queue, clock, controller = await one_round(AssertionError("never called"), may=lambda: False)
    assert controller.seen == []
    assert until_due(queue, clock, 1.0) == (None, key("one"))


# ---- events ----------------------------------------------------------------------------------------------------------------

META = {"uid": "u", "generation": 1, "deletionTimestamp": None}


def test_only_what_others_changed_is_news() -> None:
    known, one = KnownObjects(), key("one")
    assert known.is_news(one, "ADDED", META)
    assert not known.is_news(one, "MODIFIED", {**META, "resourceVersion": "9"})
    assert known.is_news(one, "MODIFIED", {**META, "generation": 2})
    assert known.is_news(one, "MODIFIED", {**META, "generation": 2, "deletionTimestamp": "now"})
    assert not known.is_news(one, "MODIFIED", {**META, "generation": 2, "deletionTimestamp": "now"})


def test_a_list_after_a_gap_is_news_of_every_object() -> None:
    known, one = KnownObjects(), key("one")
    assert [known.is_news(one, None, META) for _ in range(2)] == [True, True]
    assert not known.is_news(one, "MODIFIED", META)


def test_an_object_that_was_deleted_is_forgotten_and_another_of_its_name_is_new() -> None:
    known, one = KnownObjects(), key("one")
    known.is_news(one, "ADDED", META)
    assert known.is_news(one, "DELETED", META)
    assert known.is_news(one, "MODIFIED", META)
    assert known.is_news(key("two"), "MODIFIED", META)


# ---- tasks -----------------------------------------------------------------------------------------------------------------


async def forever(ended_: list[str], name: str) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended_.append(name)


async def test_the_first_to_end_decides_and_the_others_have_ended_when_it_returns() -> None:
    over: list[str] = []
    assert await first_of(forever(over, "a"), asyncio.sleep(0), forever(over, "c")) == 1
    assert sorted(over) == ["a", "c"]


async def test_what_the_first_raised_is_raised_after_the_others_have_ended() -> None:
    over: list[str] = []

    async def fail() -> None:
        raise ApiError(500, "InternalError", "down")

    with pytest.raises(ApiError):
        await first_of(forever(over, "a"), fail())
    assert over == ["a"]


async def test_who_is_cancelled_while_waiting_leaves_no_task_behind() -> None:
    over: list[str] = []
    waiting = asyncio.create_task(first_of(forever(over, "a"), forever(over, "b")))
    await asyncio.sleep(0.01)
    await ended(waiting)
    assert sorted(over) == ["a", "b"] and waiting.cancelled()


async def test_a_task_that_fails_while_it_is_ended_stops_nobody() -> None:
    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("on the way out")

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await ended(task, asyncio.create_task(asyncio.sleep(0)))
    assert task.done()
