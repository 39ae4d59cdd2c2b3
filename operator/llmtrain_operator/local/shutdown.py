"""How a local run ends early: after one signal the agents save; after a second, or if saving takes too long, they are killed."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from llmtrain_operator.local.agents import AgentProcess
from llmtrain_trainer.config import ExitCode

SECONDS_TO_SAVE = 300.0
SECONDS_TO_FOLLOW = 20.0
"""Seconds that the other agents have to notice a failed one before they are told to stop."""


@dataclass(slots=True)
class Shutdown:
    """The state of a shutdown. Signals are counted in `told`; `tend` acts on them from the main loop."""

    agents: Sequence[AgentProcess]
    say: Callable[[str], None]
    told: int = 0
    _acted: int = 0
    _deadline: float | None = None
    _failed_at: float | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle SIGINT, SIGTERM and SIGHUP as a request to save and stop."""
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, self._hear) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        self.told += 1

    def tend(self, now: float) -> None:
        """Act on signals and failures; to be called in each iteration of the main loop. `now`: seconds of a monotonic clock."""
        self._follow_a_failure(now)
        if self.told and not self._acted:
            self.say("Saving a checkpoint, then stopping. Press Ctrl-C again to stop at once.")
            self._stop(now)
        elif self.told >= 2 and self._acted == 1:
            self.say("Stopping at once; steps that were not saved are lost.")
            self._kill()
        elif self._deadline is not None and now > self._deadline and self._acted == 1:
            self.say(f"Saving took longer than {SECONDS_TO_SAVE:.0f} s; stopping at once.")
            self._kill()

    def _follow_a_failure(self, now: float) -> None:
        ended = [agent for agent in self.agents if not agent.alive]
        failed = any(agent.process.returncode not in (ExitCode.DONE, ExitCode.SAVED) for agent in ended)
        if not failed or len(ended) == len(self.agents) or self._acted:
            return
        self._failed_at = self._failed_at or now
        if now - self._failed_at > SECONDS_TO_FOLLOW:
            self.say("A node has failed; the others stop.")
            self._stop(now)

    def _stop(self, now: float) -> None:
        self._acted, self._deadline = 1, now + SECONDS_TO_SAVE
        for agent in self.agents:
            agent.send(signal.SIGTERM)

    def _kill(self) -> None:
        self._acted = 2
        for agent in self.agents:
            agent.send(signal.SIGKILL)
