"""A thread with an event loop of its own, for work that nothing may delay: renewals of the lease, and probes.

Reading thousands of objects keeps the loop of the reconciles busy for seconds at a time: a lease would lapse, and probes go unanswered.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from types import TracebackType
from typing import Any, Self, TypeVar

Result = TypeVar("Result")

STOPPED_SECONDS = 60.0
"""Seconds without an iteration after which the event loop counts as hung."""


class Aside:
    """The thread. A context manager; what runs in it ends with it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="aside", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(_ended(), self._loop).result(timeout=5.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5.0)
        if not self._thread.is_alive():
            self._loop.close()

    async def run(self, call: Coroutine[Any, Any, Result]) -> Result:
        """Await it in the thread; a cancellation here cancels it there."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call, self._loop))

    async def enter(self, stack: AsyncExitStack, made: Callable[[], AbstractAsyncContextManager[Result]]) -> Result:
        """Create and enter a context manager in the thread; it exits there when the stack closes."""

        async def begin() -> tuple[AbstractAsyncContextManager[Result], Result]:
            manager = made()
            return manager, await manager.__aenter__()

        async def end() -> None:
            await manager.__aexit__(None, None, None)

        manager, entered = await self.run(begin())
        stack.push_async_callback(lambda: self.run(end()))
        return entered


async def _ended() -> None:
    """Cancel all other tasks of this loop and wait for them."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class Pulse:
    """Whether the event loop of the reconciles runs: that loop runs `beat`, another thread reads the result."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._last = clock, clock()

    async def beat(self) -> None:
        """Record iterations until cancelled."""
        while True:
            self._last = self._clock()
            await asyncio.sleep(1.0)

    def stopped(self) -> str | None:
        """A sentence if the loop hangs, else None."""
        silent = self._clock() - self._last
        return f"The loop that reconciles has stood still for {silent:.0f} s." if silent > STOPPED_SECONDS else None
