"""What reconcile saw of a job at one moment: frozen values, made by objects.py, judged by decide.py. Times are seconds since the epoch.

None says that something was not there, or could not be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from llmtrain_operator.api.gang_schedulers import GangScheduler
from llmtrain_operator.api.job import Spec, Status
from llmtrain_trainer.config import ExitCode, NodeStatus, place

STOPPED = (ExitCode.SAVED, ExitCode.STOPPED_UNSAVED)
"""Exit codes of an agent that was told to stop."""

GangKind = Literal[GangScheduler, "operator", "none"]
"""Who admits all pods or none. operator: this operator's own order; none: nobody, each pod for itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The object itself."""

    name: str
    namespace: str
    uid: str
    generation: int
    created: float | None
    deleting: bool
    spec: Spec | None
    """None where the manifest cannot be read; `refusal` then says why."""

    refusal: str | None
    """Why it cannot be planned, one sentence a problem; None where it can."""

    status: Status
    """What was written last."""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def destination(self) -> str | None:
        """Where its checkpoints go, under a name that means the same place for every job of the cluster."""
        if self.spec is None or self.spec.checkpoint is None:
            return None
        try:
            there = place(self.spec.checkpoint.destination)
        except ValueError:
            return None  # the plan refuses it
        return f"{self.namespace}/{there}" if there.startswith("pvc://") else there

    @property
    def size(self) -> int:
        """Pods of a gang."""
        return self.spec.resources.nodes if self.spec else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod that the job made, or an earlier job of its name."""

    name: str
    uid: str
    owner: str | None
    """uid of the job that controls it; None where an earlier job left it behind."""

    attempt: int
    index: int
    phase: str
    reason: str | None = None
    """Pod's own reason, such as Evicted."""

    message: str | None = None
    created: float | None = None
    deleting: float | None = None
    """When it is to be gone: deletionTimestamp."""

    grace: float | None = None
    """Seconds it was given to end; 0 where it was deleted by force."""

    node: str | None = None
    placed: float | None = None
    """When it was given its node."""

    gated: bool = False
    """Held back by a scheduling gate."""

    unschedulable: str | None = None
    """What the scheduler says."""

    nominated: bool = False
    """The scheduler has a node for it, on which others are told to end first."""

    waiting: str | None = None
    """Why the container does not run yet, such as ImagePullBackOff."""

    waiting_message: str | None = None
    started: float | None = None
    """When the container was started."""

    running: bool = False
    beside: tuple[str, ...] = ()
    """Other containers of the pod that run, such as one that a service mesh put in."""

    finished: float | None = None
    exit_code: int | None = None
    exit_reason: str | None = None
    """Of the container, such as OOMKilled."""

    termination: str | None = None
    """Its termination message."""

    disruption: str | None = None
    """Reason of its DisruptionTarget or TerminationTarget condition."""

    disruption_message: str | None = None
    disrupted: float | None = None

    @property
    def stopped(self) -> bool:
        """Whether its processes are known to have ended. A phase that someone set from afar is not enough."""
        return self.exit_code is not None or (self.ended and not self.running)

    @property
    def ended(self) -> bool:
        """Whether all its containers have ended, so that its devices are free."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def told_by_nobody(self) -> bool:
        """Whether its agent was told to stop, and nothing in the pod says by whom."""
        asked = self.deleting is not None or self.disruption is not None or self.reason is not None
        return self.exit_code in STOPPED and not asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node that pods of the job are on."""

    name: str
    exists: bool = True
    not_ready_since: float | None = None
    """When Ready stopped being True."""

    out_of_service: bool = False
    """Somebody vouches that nothing runs on it any more: taint node.kubernetes.io/out-of-service."""

    unschedulable: bool = False
    """Cordoned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """The last answer of an agent's /status."""

    status: NodeStatus
    time: float
    """When it answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What the queue says: a Workload of Kueue, a PodGroup of Volcano or of scheduler-plugins."""

    admitted: bool
    since: float | None = None
    """When it last changed its mind."""

    evicted: bool = False
    """It was admitted and is being taken back."""

    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """The newest warning event about a pod."""

    reason: str
    message: str
    time: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What says who goes first among jobs that wait for their turn."""

    after: float = 0.0
    """Until then those go first whose pods were not found to fit on no node."""

    served: int = 0
    """When a gang of its namespace had a turn last, counted in turns; 0: never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """Another job under the operator's own order of gangs."""

    key: str
    placing: bool
    """Some of its pods have no node yet."""

    waiting_since: float | None = None
    """Since when it waits for its turn; None where it does not."""

    shape: str = ""
    """What its pods ask of a node: pods alike in this are taken by the same nodes."""

    size: int = 0
    """Pods of the gang."""

    place: Place = field(default_factory=Place)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotCreated:
    """Objects of a gang that the API server did not take."""

    message: str
    """What it said; where somebody else has the name, what is in the way and what to do."""

    until: float = 0.0
    """Nothing is tried again before then."""

    final: bool = True
    """Whether it said no, and not that something went wrong."""

    taken: bool = False
    """Whether somebody else has an object of that name."""

    tries: int = 1
    """In a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything a decision rests on."""

    now: float
    job: Job
    pods: tuple[Pod, ...] = ()
    nodes: Mapping[str, Node] = field(default_factory=dict)
    agents: Mapping[int, Agent] = field(default_factory=dict)
    """By index, of the newest attempt."""

    admission: Admission | None = None
    gang: GangKind = "operator"
    rivals: tuple[Rival, ...] = ()
    writer: str | None = None
    """Another job that writes to this one's destination, as it may be named to who reads this one's status."""

    contested: bool = False
    """Whether another job waits for this one's destination."""

    warnings: Mapping[str, Warned] = field(default_factory=dict)
    """By name of the pod."""

    not_created: NotCreated | None = None
    """Why objects of the gang could not be created last; None where they all could."""

    place: Place = field(default_factory=Place)
    """Its own place in the line of those that wait for their turn."""
