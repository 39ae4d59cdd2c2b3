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
    """The action to carry out."""

    NOTHING = "nothing"
    LEAVE_ALONE = "leave alone"
    """Nothing, and no status write: the job belongs to another controller, or is being deleted."""

    CREATE = "create"
    """Create the pods `create` of attempt `attempt`."""

    DELETE_PODS = "delete pods"
    DELETE_JOB = "delete job"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """One pod to delete."""

    name: str
    uid: str
    """Precondition, so that a later pod with that name is not deleted."""

    grace: float | None
    """Grace period in seconds; None: the pod's own; 0: by force, on a lost node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The action, with a reason in one CamelCase word and a message of one sentence."""

    action: Action = Action.NOTHING
    phase: Phase
    reason: str
    message: str
    attempt: int = 0
    """With CREATE: number of the attempt."""

    create: tuple[int, ...] = ()
    """With CREATE: indexes of the pods."""

    delete: tuple[Deletion, ...] = ()
    held: str | None = None
    """One sentence on pods among `delete` whose trainers ended and in which something else runs on; None where there are none."""

    clears: int = 0
    """Attempts up to this one are over, and their own objects can be deleted."""

    ends: int | None = None
    """This attempt is over from now on."""

    failure: Failure | None = None
    """The failure that ended the newest attempt."""

    restart: bool = False
    """Whether `failure` leads to a restart that counts; False if only the diagnosis of a known failure improves."""

    again_in: float | None = None
    """Reconcile again after so many seconds even without an event."""


def stop(pods: Iterable[Pod], grace: float | None) -> tuple[Deletion, ...]:
    """Deletions of pods that are not being deleted yet, or have a longer grace period than `grace`."""
    told_less = [pod for pod in pods if pod.deleting is None or (grace is not None and pod.grace is not None and pod.grace > grace)]
    return tuple(Deletion(name=pod.name, uid=pod.uid, grace=grace) for pod in told_less)
