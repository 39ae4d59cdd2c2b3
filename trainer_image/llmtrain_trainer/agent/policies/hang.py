"""Which rank hangs, judged by heartbeats."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

from llmtrain_trainer.agent.gang.failure import NodeFailure
from llmtrain_trainer.agent.policies.round import Round, RoundDecision
from llmtrain_trainer.config import Heartbeat

_SLOW_PHASES = {"start": 900.0, "load": 1800.0, "export": 3600.0, "done": 600.0}
"""Seconds without a heartbeat that are normal here: compiling, reading weights, gathering them."""

_LEAST = 300.0
_FIRST_STEP = 900.0
"""The first step after a start may compile, and has no earlier step to be compared with."""


_LONGEST_LOOK = 2.0
"""Seconds between two looks that count as listening; the agent looks ten times per second."""

_ASLEEP = 5.0


def patience(configured: float | None, step_seconds: Sequence[float]) -> float:
    """Seconds allowed for a step: as configured, otherwise 10 x the median of the steps so far and at least 300."""
    if configured is not None:
        return configured
    return max(_LEAST, 10 * statistics.median(step_seconds)) if step_seconds else _LEAST


class Listening:
    """How long each rank was silent while somebody listened. Time in which this process did not run, since the machine slept or all of
    its processes were stopped, is no silence of the ranks: they did not run either.
    """

    def __init__(self, now: float) -> None:
        """`now`, here and below: of a clock that never goes back, in seconds."""
        self._looked, self._listened = now, 0.0
        self._heard: dict[int, tuple[float, float]] = {}

    def look(self, heartbeats: Iterable[Heartbeat], now: float) -> float:
        """Note what is new. Returns the seconds since the last look, where these are too many for a process that ran."""
        gap, self._looked = now - self._looked, now
        self._listened += min(gap, _LONGEST_LOOK)
        for beat in heartbeats:
            if self._heard.get(beat.rank, (0.0, 0.0))[0] != beat.time:
                self._heard[beat.rank] = (beat.time, self._listened)
        return gap if gap > _ASLEEP else 0.0

    def silence(self, rank: int) -> float:
        """Seconds since the last heartbeat; since the start where there was none."""
        return self._listened - self._heard.get(rank, (0.0, 0.0))[1]


def a_rank_hangs(seen: Round) -> RoundDecision | None:
    """A rank was silent for too long. Processes are asked for their states only then."""
    heard = seen.heartbeats
    late = silent_rank(heard.beats, heard.start_step, heard.patience, heard.silences, {})
    if late is None:
        return None
    blamed, silence = silent_rank(heard.beats, heard.start_step, heard.patience, heard.silences, heard.states()) or late
    message = f"no heartbeat for {silence:.0f} s in phase {blamed.phase}, stacks are in logs/rank-{blamed.rank}.log."
    failure = NodeFailure(kind="hang", rank=blamed.rank, node=seen.node, time=seen.now, step=blamed.step, message=message)
    return RoundDecision(action="restart-hung", failure=failure)


def silent_rank(
    heartbeats: Sequence[Heartbeat], started_at_step: int, limit: float, silences: Mapping[int, float], states: Mapping[int, str]
) -> tuple[Heartbeat, float] | None:
    """The rank to blame and how long it has been silent (seconds), or None while all is well. `silences`: by rank.

    One stuck rank stops all others in their next collective, so all fall silent together: the one to blame is a stopped process, else one
    in an uninterruptible wait, else the one that did the fewest steps, else the first that fell silent. `states` maps a rank to its
    process state as psutil names it.
    """
    late = [beat for beat in heartbeats if silences[beat.rank] > _allowed(beat, started_at_step, limit)]
    if not late:
        return None
    rank_of_state = {"stopped": 0, "tracing-stop": 0, "disk-sleep": 1}
    blamed = min(heartbeats, key=lambda beat: (rank_of_state.get(states.get(beat.rank, ""), 2), beat.step, beat.time))
    return blamed, min(silences[beat.rank] for beat in late)


def _allowed(beat: Heartbeat, started_at_step: int, limit: float) -> float:
    if beat.phase in _SLOW_PHASES:
        return max(limit, _SLOW_PHASES[beat.phase])
    if beat.step <= started_at_step:
        return max(limit, _FIRST_STEP)
    return limit
