"""Measures how a rank spends a step, by phase, without waiting for the device."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_RECENT = 16
"""Number of steps in the median step time: one slow step is no straggler."""

_Mark = float | torch.cuda.Event


class Stopwatch:
    """A rank is in one phase at a time; a phase within another interrupts it.

    On a GPU the marks are events in its stream, recorded and never waited for. They may be read once the host has waited for the stream
    anyway, so that what comes after that wait (the optimizer) shows with the next step.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._open: tuple[str | None, _Mark] = (None, self._now())
        self._spans: list[tuple[str, _Mark, _Mark]] = []
        self._recent: deque[float] = deque(maxlen=_RECENT)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """A context manager: time within it counts as `name`."""
        outer = self._turn(name)
        try:
            yield
        finally:
            self._turn(outer)

    def take(self) -> dict[str, float]:
        """Seconds by phase of the spans that ended since the last call. Call it right after a wait for the device."""
        spans, self._spans = self._spans, []
        seconds: dict[str, float] = {}
        for name, began, ended in spans:
            seconds[name] = seconds.get(name, 0.0) + _between(began, ended)
        self._recent.append(sum(spent for name, spent in seconds.items() if name != "comm"))
        return seconds

    @property
    def own_seconds(self) -> float:
        """Median seconds of the last steps without `comm`; 0 before the first."""
        return statistics.median(self._recent) if self._recent else 0.0

    def _turn(self, name: str | None) -> str | None:
        now, (before, began) = self._now(), self._open
        if before is not None:
            self._spans.append((before, began, now))
        self._open = (name, now)
        return before

    def _now(self) -> _Mark:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event


def _between(began: _Mark, ended: _Mark) -> float:
    if isinstance(began, torch.cuda.Event) and isinstance(ended, torch.cuda.Event):
        return float(began.elapsed_time(ended)) / 1000
    assert isinstance(began, float)
    assert isinstance(ended, float)
    return ended - began
