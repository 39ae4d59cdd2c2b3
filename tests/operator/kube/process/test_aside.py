"""A second event loop, which nothing in the first delays, and the pulse that tells of a first one that stands still."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from llmtrain_operator.kube.api.client import ApiError
from llmtrain_operator.kube.process.aside import STOPPED_SECONDS, Aside, Pulse


@pytest.mark.timeout(60)
async def test_what_runs_aside_is_held_up_by_nothing_in_this_loop() -> None:
    ticks: list[int] = []

    async def tick() -> None:
        while True:
            ticks.append(1)
            await asyncio.sleep(0.001)

    with Aside() as aside:
        task = asyncio.create_task(aside.run(tick()))
        await asyncio.sleep(0.05)
        before = len(ticks)
        while len(ticks) < before + 5:  # this loop stands still until the other one went on
            sum(range(1000))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def forever(over: list[str], name: str) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        over.append(name)


class Managed:
    """A context manager that notes which loop it was entered and left in."""

    def __init__(self) -> None:
        self.loops: list[asyncio.AbstractEventLoop] = []

    async def __aenter__(self) -> str:
        self.loops.append(asyncio.get_running_loop())
        return "entered"

    async def __aexit__(self, *_: object) -> None:
        self.loops.append(asyncio.get_running_loop())


async def test_what_is_entered_in_the_second_loop_is_left_in_it() -> None:
    managed = Managed()
    with Aside() as aside:
        async with AsyncExitStack() as stack:
            assert await aside.enter(stack, lambda: managed) == "entered"
            assert len(managed.loops) == 1
    assert len(managed.loops) == 2 and managed.loops[0] is managed.loops[1] is not asyncio.get_running_loop()


async def test_an_error_in_the_second_loop_is_raised_here() -> None:
    async def fail() -> None:
        raise ApiError(409, "Conflict", "overtaken")

    with Aside() as aside, pytest.raises(ApiError, match="overtaken"):
        await aside.run(fail())


async def test_what_still_runs_in_the_second_loop_ends_with_it() -> None:
    over: list[str] = []
    with Aside() as aside:
        left = asyncio.create_task(aside.run(forever(over, "left")))
        await asyncio.sleep(0.05)
    assert over == ["left"]
    await asyncio.gather(left, return_exceptions=True)


# ---- the pulse -------------------------------------------------------------------------------------------------------------


def test_a_loop_that_stands_still_is_told_to_the_probes() -> None:
    now = [7.0]
    pulse = Pulse(lambda: now[0])
    assert pulse.stopped() is None
    now[0] += STOPPED_SECONDS
    assert pulse.stopped() is None
    now[0] += 1
    assert pulse.stopped() == f"The loop that reconciles has stood still for {STOPPED_SECONDS + 1:.0f} s."


async def test_a_loop_that_runs_again_is_well_again() -> None:
    now = [7.0]
    pulse = Pulse(lambda: now[0])
    now[0] += 10 * STOPPED_SECONDS
    beat = asyncio.create_task(pulse.beat())
    await asyncio.sleep(0)
    assert pulse.stopped() is None
    now[0] += STOPPED_SECONDS + 1
    assert pulse.stopped() is not None
    beat.cancel()
