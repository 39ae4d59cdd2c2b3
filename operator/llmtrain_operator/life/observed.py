"""What reconcile saw of a job at one moment: frozen values, made by objects.py, judged by decide.py. Times are seconds since the epoch.

None says that something was not there, or could not be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from llmtrain_operator.api.gang_schedulers import GangScheduler
from llmtrain_operator.api.job import Spec, Status
from llmtrain_operator.life.destinations import Contender, Destinations
from llmtrain_operator.plan.plan import Plan
from llmtrain_trainer.config import ExitCode, NodeStatus, place

STOPPED = (ExitCode.SAVED, ExitCode.STOPPED_UNSAVED)
"""Exit codes of an agent that was told to stop."""

GangKind = Literal[GangScheduler, "operator", "none"]
"""What admits all pods of a gang or none. operator: the operator's own order; none: each pod is scheduled independently."""


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
    """None if the manifest is invalid; `refusal` then says why."""

    refusal: str | None
    """Why it cannot be planned, one sentence per problem; None if it can."""

    status: Status
    """The status that was written last."""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def destinations(self) -> Destinations:
        """Where it writes, in a form that is unique in the cluster."""
        if self.spec is None:
            return Destinations()
        checkpoints, exports = self.spec.checkpoint, self.spec.output.destination
        return Destinations(
            checkpoints=self._there(checkpoints.destination) if checkpoints else None, exports=self._there(exports) if exports else None
        )

    def _there(self, uri: str) -> str | None:
        try:
            there = place(uri)
        except ValueError:
            return None  # the plan refuses it
        return f"{self.namespace}/{there}" if there.startswith("pvc://") else there

    @property
    def size(self) -> int:
        """Number of pods of a gang."""
        return self.spec.resources.nodes if self.spec else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod of the job, or of an earlier job with its name."""

    name: str
    uid: str
    owner: str | None
    """uid of the job that controls it; None if it was orphaned by an earlier job."""

    attempt: int
    index: int
    phase: str
    reason: str | None = None
    """Pod's own reason, such as Evicted."""

    message: str | None = None
    created: float | None = None
    deleting: float | None = None
    """deletionTimestamp: when its grace period ends."""

    grace: float | None = None
    """Grace period in seconds; 0 if it was deleted by force."""

    node: str | None = None
    placed: float | None = None
    """When it was scheduled."""

    gated: bool = False
    """Held back by a scheduling gate."""

    unschedulable: str | None = None
    """The scheduler's message, if it found no node."""

    nominated: bool = False
    """Whether the scheduler has nominated a node for it, where others are being preempted."""

    waiting: str | None = None
    """Why the container does not run yet, such as ImagePullBackOff."""

    waiting_message: str | None = None
    started: float | None = None
    """When the container was started."""

    running: bool = False
    beside: tuple[str, ...] = ()
    """Other running containers of the pod, such as one that a service mesh injected."""

    finished: float | None = None
    exit_code: int | None = None
    exit_reason: str | None = None
    """Reason of the container's end, such as OOMKilled."""

    termination: str | None = None
    """Termination message of the container."""

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
    """Taint node.kubernetes.io/out-of-service: somebody guarantees that nothing runs on it any more."""

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
    """The queue's state: a Workload of Kueue, a PodGroup of Volcano or of scheduler-plugins."""

    admitted: bool
    since: float | None = None
    """When `admitted` last changed."""

    evicted: bool = False
    """Whether the admission is being withdrawn."""

    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """The newest warning event about a pod."""

    reason: str
    message: str
    time: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePlace:
    """A job's place in the order of jobs that wait for their turn."""

    after: float = 0.0
    """Until then those go first whose pods were not found to fit on no node."""

    served: int = 0
    """When a gang of its namespace had a turn last, counted in turns; 0: never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """Another job under the operator's own order of gangs."""

    key: str
    placing: bool
    """Whether some of its pods have no node yet."""

    waiting_since: float | None = None
    """When it began to wait for its turn, seconds since the epoch; None if it does not."""

    shape: str = ""
    """Requirements of its pods on a node, as text: pods with equal texts fit on the same nodes."""

    size: int = 0
    """Number of pods of the gang."""

    place: QueuePlace = field(default_factory=QueuePlace)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotCreated:
    """Objects of a gang that the API server refused."""

    message: str
    """The API server's message; if somebody else has the name, what is in the way and what to do."""

    until: float = 0.0
    """Time of the next try, seconds since the epoch."""

    final: bool = True
    """Whether the API server refused them, rather than failed."""

    taken: bool = False
    """Whether somebody else has an object with that name."""

    tries: int = 1
    """Number of consecutive tries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The input of a decision."""

    now: float
    job: Job
    plan: Plan | None = None
    """The plan of this generation of the manifest; None if it is refused, or was not planned here."""

    pods: tuple[Pod, ...] = ()
    nodes: Mapping[str, Node] = field(default_factory=dict)
    agents: Mapping[int, Agent] = field(default_factory=dict)
    """By index, of the newest attempt."""

    admission: Admission | None = None
    gang: GangKind = "operator"
    rivals: tuple[Rival, ...] = ()
    writer: Contender | None = None
    """Another job that writes to a destination of this one."""

    contested: bool = False
    """Whether another job waits for this one's destination."""

    warnings: Mapping[str, Warned] = field(default_factory=dict)
    """By name of the pod."""

    not_created: NotCreated | None = None
    """Why objects of the gang could not be created last; None if all were created."""

    place: QueuePlace = field(default_factory=QueuePlace)
    """Its own place in the order of jobs that wait for their turn."""
