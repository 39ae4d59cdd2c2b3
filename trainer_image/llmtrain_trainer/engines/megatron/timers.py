"""Megatron's timers as phases of our stopwatch: its schedules start and stop them around what they do."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from llmtrain_trainer.engines.stopwatch import Stopwatch

_PHASES = {"forward-compute": "forward", "backward-compute": "backward"}


class Timers:
    """What Megatron expects of `config.timers`."""

    def __init__(self, watch: Stopwatch) -> None:
        self._timers = {name: _Timer(watch, phase) for name, phase in _PHASES.items()}
        self._others = _Timer(watch, None)

    def __call__(self, name: str, **_: Any) -> _Timer:
        """The timer of that name. Megatron also gives a level; all timers are cheap here."""
        return self._timers.get(name, self._others)


class _Timer:
    """One of Megatron's timers; without a phase it does nothing."""

    def __init__(self, watch: Stopwatch, phase: str | None) -> None:
        self._watch, self._phase, self._running = watch, phase, ExitStack()

    def start(self, **_: Any) -> None:
        """Ranks are not made to wait for each other here, though Megatron may ask for it."""
        if self._phase is not None:
            self._running.enter_context(self._watch.phase(self._phase))

    def stop(self, **_: Any) -> None:
        """Back to the phase before."""
        self._running.close()
