"""Whether a failed attempt is followed by another one: restart budget, repeated failures, backoff."""

from __future__ import annotations

from llmtrain_operator.api.job import Restarts
from llmtrain_operator.api.job.status import RecentRestarts, RestartCounts
from llmtrain_operator.life.attempt import HEARD_WITHIN, AttemptView
from llmtrain_operator.life.failures.diagnose import same_again
from llmtrain_operator.life.failures.failure import Failure
from llmtrain_operator.life.times import seconds_of, text_of
from llmtrain_trainer.config import seconds
from llmtrain_trainer.config.formats import span

FIRST_WAIT, LONGEST_WAIT = 10.0, 300.0
STEADY = 600.0
"""Seconds after which a gang counts as steady: after a disruption it restarts at once."""

_SLOTS = 24
"""Restarts within 1/24 of the window are kept as one entry, so that a history of thousands stays short."""


def refusal(gang: AttemptView, failure: Failure) -> tuple[str, str] | None:
    """Why there is no further attempt, as reason and sentence; None if the job restarts."""
    spec, status = gang.job.spec, gang.job.status
    if not failure.retryable:
        return failure.reason, f"{_sentence(failure.message)} A restart will not help."
    if spec is None or not failure.charged:
        return None
    if _progress_is_known(gang, failure) and same_again(failure, failure.step if failure.step is not None else gang.step(), status.failure):
        return failure.reason, f"{_sentence(failure.message)} The previous attempt ended in the same way, and training got no further."
    budget = spec.resilience.restarts
    counted = in_window(status.restarts or RestartCounts(), gang.observed.now, budget) + new_in_place(gang)
    if counted >= budget.max:
        spent = f"{_sentence(failure.message)} The budget of {budget.max} restarts in {budget.window} is spent."
        return "RestartBudgetSpent", spent
    return None


def _progress_is_known(gang: AttemptView, failure: Failure) -> bool:
    """Whether it is known how far the attempt got: node 0 reported it at the end, or answered until then, or was not silent for long."""
    if failure.step is not None or gang.verdict is not None:
        return True
    began = [pod.started for pod in gang.pods.values() if pod.started is not None]
    if len(began) < gang.size:
        return True  # without all of its pods it cannot have trained
    heard = max(*began, gang.leader.time if gang.leader else 0.0)
    return failure.time - heard < HEARD_WITHIN


def wait(gang: AttemptView) -> float:
    """Seconds until the next attempt may start: 0 after a first restart, then 10 s, doubling up to five minutes.

    Uncounted restarts back off too: each costs pods, nodes and writes to the API server's store.
    """
    status = gang.job.status
    streak = max(status.restarts.streak, status.restarts.interruptions) if status.restarts else 0
    ended = seconds_of(status.failure.time) if status.failure and status.failure.attempt == status.ended_attempt else None
    if streak < 2 or ended is None:
        return 0.0
    delay = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(streak - 2, 10))
    return min(delay, max(0.0, ended + delay - gang.observed.now))


def waiting_sentence(seconds_left: float) -> str:
    return f"The next attempt starts in {span(seconds_left)}, because the last ones ended soon or without getting further."


def interruptions(gang: AttemptView, failure: Failure | None, before: int) -> int:
    """The new number of consecutive uncounted restarts; `failure` is the one that leads to a restart now, if any."""
    if failure is None:
        return before
    began = [pod.started for pod in gang.pods.values()]
    steady = bool(began) and all(at is not None and gang.observed.now - at >= STEADY for at in began)
    return (0 if steady else before) + (not failure.charged)


def in_window(restarts: RestartCounts, now: float, budget: Restarts) -> int:
    """Counted restarts within the window."""
    return sum(entry.count for entry in _recent(restarts, now, budget))


def left(gang: AttemptView) -> int:
    """Restarts in place that a new attempt may make: the unused part of the budget."""
    spec = gang.job.spec
    if spec is None:
        return 0
    budget = spec.resilience.restarts
    return max(0, budget.max - in_window(gang.job.status.restarts or RestartCounts(), gang.observed.now, budget))


def charge(restarts: RestartCounts, count: int, now: float, budget: Restarts) -> tuple[RecentRestarts, ...]:
    """The history with `count` more restarts."""
    kept = _recent(restarts, now, budget)
    if count <= 0:
        return kept
    newest = seconds_of(kept[-1].time) if kept else None
    if newest is not None and 0 <= now - newest < seconds(budget.window) / _SLOTS:
        return (*kept[:-1], RecentRestarts(time=kept[-1].time, count=kept[-1].count + count))
    return (*kept, RecentRestarts(time=text_of(now), count=count))[-64:]


def new_in_place(gang: AttemptView) -> int:
    """Restarts in place of the newest attempt that are not counted yet. All ranks restart together, so all nodes have the same count."""
    restarts = gang.job.status.restarts or RestartCounts()
    counted = restarts.attempt_in_place if gang.job.status.attempt == gang.number else 0
    told = [agent.status.restarts for index in gang.pods if (agent := gang.agent(index)) is not None]
    said = [evidence.verdict.restarts for evidence in gang.evidence() if evidence.verdict is not None]
    return max(0, max((*told, *said), default=0) - counted)


def said_in_place(gang: AttemptView) -> str | None:
    """One sentence on restarts in place that are not counted yet; None if there are none."""
    new = new_in_place(gang)
    if not new:
        return None
    cause = gang.leader.status.last_restart if gang.leader else None
    counted = "" if new == 1 else f" It was the last of {new} restarts in place."
    return f"{cause or 'The ranks were restarted in their pods.'}{counted}"


def _recent(restarts: RestartCounts, now: float, budget: Restarts) -> tuple[RecentRestarts, ...]:
    return tuple(entry for entry in restarts.recent if now - (seconds_of(entry.time) or 0.0) < seconds(budget.window))


def _sentence(text: str) -> str:
    return text.rstrip(". ") + "."
