"""The work queue: whatever is added and however, a key is worked on by one worker at a time and never forgotten."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from llmtrain_operator.kube.process.queue import LONGEST_SOON, SHARE, SOON, WorkQueue


class Clock:
    """Time that moves when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def queue_at(clock: Clock) -> WorkQueue[str]:
    return WorkQueue(base=1.0, cap=100.0, clock=clock, jitter=lambda: 1.0)


def test_a_key_added_many_times_is_worked_on_once() -> None:
    queue = queue_at(Clock())
    for _ in range(5):
        queue.add("a")
    assert [queue.take(), queue.take()] == ["a", None]


def test_keys_come_in_the_order_they_were_added() -> None:
    queue = queue_at(Clock())
    for key in "abcab":
        queue.add(key)
    assert [queue.take() for _ in range(4)] == ["a", "b", "c", None]


def test_what_is_added_goes_before_what_was_due_but_for_every_fourth() -> None:
    clock = Clock()
    queue = queue_at(clock)
    for number in range(3):
        queue.add_after(f"due-{number}", 1)
    clock.now += 2
    assert queue.take() == "due-0"  # nothing else is there
    for number in range(5):
        queue.add(f"new-{number}")
    queue.add("due-2")
    assert len(queue) == 7 and queue.age == 0.0
    clock.now += 3
    assert queue.age == 3.0
    taken = [queue.take() for _ in range(8)]
    assert taken == ["new-0", "new-1", "due-1", "new-2", "new-3", "new-4", "due-2", None]


def test_a_key_added_while_worked_on_comes_again_after_and_never_beside() -> None:
    queue = queue_at(Clock())
    queue.add("a")
    assert queue.take() == "a"
    queue.add("a")
    assert queue.take() is None, "two workers on one key"
    queue.done("a")
    assert queue.take() == "a"


def test_of_several_delays_the_earliest_wins() -> None:
    clock = Clock()
    queue = queue_at(clock)
    queue.add_after("a", 50)
    queue.add_after("a", 10)
    queue.add_after("a", 30)
    clock.now += 9.9
    assert queue.take() is None
    clock.now += 0.2
    assert queue.take() == "a"
    queue.done("a")
    clock.now += 100
    assert queue.take() is None, "the later delays were kept"


def test_starting_on_a_key_drops_its_delayed_add_and_one_made_during_the_work_stays() -> None:
    clock = Clock()
    queue = queue_at(clock)
    queue.add_after("a", 5)
    queue.add("a")
    queue.take()
    queue.add_after("a", 20)
    queue.done("a")
    clock.now += 6
    assert queue.take() is None
    clock.now += 20
    assert queue.take() == "a"


def test_what_is_asked_for_soon_comes_together_and_later_where_the_work_takes_long() -> None:
    clock = Clock()
    queue = queue_at(clock)
    for work, wait in ((0.0, SOON), (0.5, SHARE * 0.5), (60.0, LONGEST_SOON)):
        queue.add("a")
        assert queue.take() == "a"
        clock.now += work
        queue.add_after("a", 600)
        queue.done("a")
        queue.add_soon("a")
        queue.add_soon("a")
        clock.now += wait * 0.99
        assert queue.take() is None
        clock.now += wait * 0.02
        assert [queue.take(), queue.take()] == ["a", None]
        queue.done("a")


def test_delays_that_were_overtaken_are_not_kept() -> None:
    clock = Clock()
    queue = queue_at(clock)
    for number in range(10_000):
        queue.add_after("a", 600)
        queue.add("a")
        assert queue.take() == "a", number
        queue.done("a")
    assert len(queue._heap) < 100


def test_failures_in_a_row_double_the_delay_up_to_the_cap_and_success_starts_anew() -> None:
    queue = queue_at(Clock())
    assert [queue.failed("a") for _ in range(9)] == [1, 2, 4, 8, 16, 32, 64, 100, 100]
    assert queue.failed("b") == 1
    queue.succeeded("a")
    assert queue.failed("a") == 1


def test_thousands_of_failures_do_not_overflow() -> None:
    queue = queue_at(Clock())
    assert max(queue.failed("a") for _ in range(3000)) == 100


def test_the_age_is_that_of_the_first_key_that_waits() -> None:
    clock = Clock()
    queue = queue_at(clock)
    assert queue.age == 0
    queue.add("a")
    clock.now += 3
    queue.add("b")
    clock.now += 4
    assert queue.age == 7
    queue.take()
    assert queue.age == 4


async def test_a_worker_that_waits_wakes_for_an_add_and_for_a_delayed_add() -> None:
    queue: WorkQueue[str] = WorkQueue()
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    assert await waiting == "a"
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add_after("b", 0.01)
    assert await waiting == "b"


async def test_closing_wakes_every_worker_and_hands_out_nothing_more() -> None:
    queue: WorkQueue[str] = WorkQueue()
    workers = [asyncio.create_task(queue.get()) for _ in range(4)]
    await asyncio.sleep(0)
    queue.close()
    assert await asyncio.gather(*workers) == [None] * 4
    queue.add("a")
    assert await queue.get() is None


@given(st.lists(st.sampled_from("abc"), max_size=40))
@settings(deadline=None, max_examples=30)
def test_many_workers_never_meet_on_a_key(keys: list[str]) -> None:
    async def run() -> None:
        queue: WorkQueue[str] = WorkQueue()
        busy: set[str] = set()
        seen: set[str] = set()

        async def worker() -> None:
            while (key := await queue.get()) is not None:
                assert key not in busy
                busy.add(key)
                await asyncio.sleep(0)
                busy.discard(key)
                seen.add(key)
                queue.done(key)

        workers = [asyncio.create_task(worker()) for _ in range(3)]
        for key in keys:
            queue.add(key)
            await asyncio.sleep(0)
        while len(queue) or queue.active:  # noqa: ASYNC110  (the queue says nothing when it is empty)
            await asyncio.sleep(0)
        queue.close()
        await asyncio.gather(*workers)
        assert seen == set(keys)

    asyncio.run(run())


class Queued(RuleBasedStateMachine):
    """Against a model: `wanted` are the keys that must still be handed out at once."""

    keys = st.sampled_from("abcd")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.queue = queue_at(self.clock)
        self.wanted: set[str] = set()
        self.delayed: dict[str, float] = {}
        self.active: set[str] = set()

    @rule(key=keys)
    def add(self, key: str) -> None:
        self.queue.add(key)
        self.wanted.add(key)

    @rule(key=keys, delay=st.integers(0, 5))
    def add_after(self, key: str, delay: int) -> None:
        self.queue.add_after(key, delay)
        self.delayed[key] = min(self.delayed.get(key, float("inf")), self.clock.now + delay)

    @rule(seconds=st.integers(1, 5))
    def time_passes(self, seconds: int) -> None:
        self.clock.now += seconds

    @rule()
    def take(self) -> None:
        for key in [key for key, due in self.delayed.items() if due <= self.clock.now]:
            del self.delayed[key]
            self.wanted.add(key)
        free = self.wanted - self.active
        key = self.queue.take()
        assert (key is None) == (not free), (key, free)
        if key is not None:
            assert key in free
            self.wanted.discard(key)
            self.delayed.pop(key, None)
            self.active.add(key)

    @precondition(lambda self: self.active)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.active)))
        self.active.discard(key)
        self.queue.done(key)

    @invariant()
    def counts_agree(self) -> None:
        assert self.queue.active == len(self.active)


TestQueued = Queued.TestCase
TestQueued.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
