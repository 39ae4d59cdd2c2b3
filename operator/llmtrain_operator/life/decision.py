"""What is to be done about a job now. Made by decide.py; carried out by reconcile, projected into .status by status.py.

The status is written before anything is done: what an action leaves behind must never be read as something that befell the job.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from llmtrain_operator.api.job import Phase
from llmtrain_operator.life.failures.failure import Failure
from llmtrain_operator.life.observed import Pod


class Action(Enum):
    """The one thing to do."""

    NOTHING = "nothing"
    LEAVE_ALONE = "leave alone"
    """Nothing, and no status either: the job belongs to another controller, or is going away."""

    CREATE = "create"
    """Create the pods `create` of attempt `attempt`."""

    DELETE_PODS = "delete pods"
    DELETE_JOB = "delete job"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """One pod to delete."""

    name: str
    uid: str
    """Precondition: a later pod of that name is not meant."""

    grace: float | None
    """Seconds it gets; None: as many as it asked for; 0: by force, on a node that is given up for dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Reason in one CamelCase word, message in one sentence."""

    action: Action = Action.NOTHING
    phase: Phase
    reason: str
    message: str
    attempt: int = 0
    """With CREATE: of which attempt."""

    create: tuple[int, ...] = ()
    """With CREATE: which indexes."""

    delete: tuple[Deletion, ...] = ()
    held: str | None = None
    """One sentence on pods among `delete` whose trainers ended and in which something else runs on; None where there are none."""

    clears: int = 0
    """Attempts up to this one are over, and nothing that was made for them alone is needed any more."""

    ends: int | None = None
    """This attempt is over from now on."""

    failure: Failure | None = None
    """What was found out about the end of the newest attempt."""

    restart: bool = False
    """Whether `failure` leads to a restart that is to be counted; not set when a known failure is only understood better."""

    again_in: float | None = None
    """Look again after so many seconds even if nothing happens."""


def stop(pods: Iterable[Pod], grace: float | None) -> tuple[Deletion, ...]:
    """Deletions of pods that were not told yet; one that was given longer than `grace` is told again."""
    told_less = [pod for pod in pods if pod.deleting is None or (grace is not None and pod.grace is not None and pod.grace > grace)]
    return tuple(Deletion(name=pod.name, uid=pod.uid, grace=grace) for pod in told_less)
