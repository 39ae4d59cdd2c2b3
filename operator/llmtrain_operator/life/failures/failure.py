"""The types of a failure and of the evidence for it. The rules are in ended.py and taken.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from llmtrain_operator.life.from_objects import verdict_of
from llmtrain_operator.life.observed import Node, Pod, Warned
from llmtrain_trainer.config import Verdict
from llmtrain_trainer.config.tables.failures import FAILURES


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an attempt is over."""

    reason: str
    """Class of the failure, one CamelCase word."""

    message: str
    """One sentence with the evidence."""

    time: float
    """When it happened, seconds since the epoch."""

    pod: str | None = None
    node: str | None = None
    """Node of the first failing rank, or of the pod."""

    rank: int | None = None
    """Global rank that failed first."""

    step: int | None = None
    """Newest step that was done, if the pod reported it."""

    exit_code: int | None = None
    retryable: bool = True
    """Whether a restart may help."""

    charged: bool = True
    """Whether a restart counts against the budget."""

    repeats: bool = False
    """Whether the job itself may be the cause, so that the same failure again without progress ends the job."""

    suspect: bool = False
    """Whether the node may be the cause, so that the next attempt avoids it."""

    graceful: bool = False
    """Whether the gang was told to stop in order and may still be saving."""

    stored_attempt: int | None = None
    """The attempt named by the newest checkpoint in the store, if it is later than the one that failed."""

    weight: int = 1
    """Weight of the evidence: 0 is a cause, 1 a consequence, such as a lost peer or a pod that is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One pod and what is known about its node."""

    pod: Pod
    node: Node | None
    lost: bool
    """Whether its node counts as lost."""

    now: float
    warned: Warned | None = None
    """The newest warning event about the pod, if events were read."""

    @property
    def verdict(self) -> Verdict | None:
        return verdict_of(self.pod.termination) if self.pod.exit_code is not None else None

    @property
    def time(self) -> float:
        """When the pod failed, in seconds since the epoch; the best known estimate."""
        pod = self.pod
        known = (pod.finished, pod.disrupted, pod.deleting, self.now)
        return next(time for time in known if time is not None)

    @property
    def where(self) -> str:
        return f"Pod {self.pod.name}" + (f" on {self.pod.node}" if self.pod.node else "")


Rule = Callable[[Evidence], Failure | None]


def failed(evidence: Evidence, reason: str, message: str, *, time: float | None = None, **known_better: Any) -> Failure:
    """The failure of a pod, with the consequences of `reason` in FAILURES. `known_better`: flags that replace those of the reason."""
    pod = evidence.pod
    found = Failure(
        reason=reason,
        message=message,
        time=evidence.time if time is None else time,
        pod=pod.name,
        node=pod.node,
        step=evidence.verdict.step if evidence.verdict else None,
        exit_code=pod.exit_code,
        weight=0,
    )
    return replace(called(found, reason), **known_better)


def called(failure: Failure, reason: str) -> Failure:
    """The failure with another reason, and with the consequences of that reason."""
    row = FAILURES[reason]
    return replace(
        failure,
        reason=reason,
        retryable=row.retryable,
        charged=row.charged,
        repeats=row.repeats,
        suspect=row.suspect,
        graceful=row.graceful,
    )


def clause(text: str | None, otherwise: str) -> str:
    """The text on one line, without the full stop."""
    return " ".join((text or otherwise).split()).rstrip(".")[:2000]
