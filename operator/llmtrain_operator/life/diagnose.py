"""Evidence -> Failure: what ended an attempt, which pod was first, and whether starting again may help. Called by decide.py.

Each rule looks at one pod and its node; the first rule that speaks wins for that pod. Over the pods the first failure by time wins, where
a pod that only lost its peers gives way to one that says why, and a pod that is merely missing to both.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from llmtrain_operator.job.spec.status import Failure as Recorded
from llmtrain_operator.life.objects import verdict_of
from llmtrain_operator.life.observed import STOPPED, Node, Pod, Warned
from llmtrain_operator.life.times import span
from llmtrain_trainer.config import ExitCode, Verdict

IMAGE_PATIENCE = 600.0
"""Seconds after which an image that cannot be pulled frees the gang's other nodes."""

_PULL = ("ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError", "SignatureValidationFailed")
_NEVER_PULLED = ("InvalidImageName", "ErrImageNeverPull")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an attempt is over."""

    reason: str
    """Class, one CamelCase word."""

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
    """Newest step that was done, where the pod said so."""

    exit_code: int | None = None
    retryable: bool = True
    """Whether starting again may help."""

    charged: bool = True
    """Whether a restart counts against the budget."""

    repeats: bool = False
    """Whether the job itself may have done it, so that the same again without progress ends the job."""

    suspect: bool = False
    """Whether the node may have done it, so that the next attempt keeps away from it."""

    graceful: bool = False
    """Whether the gang was told to stop in order, so that it may still be saving."""

    stored_attempt: int | None = None
    """The attempt that the store's newest checkpoint names, where that is later than the one that failed."""

    weight: int = 1
    """Worth of the evidence: 0 a cause, 1 a consequence, such as a lost peer or a pod that is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One pod and what is known of the place it ran on."""

    pod: Pod
    node: Node | None
    lost: bool
    """Whether its node is given up for dead."""

    now: float
    warned: Warned | None = None
    """The newest warning event about the pod, where it was asked for."""

    @property
    def verdict(self) -> Verdict | None:
        return verdict_of(self.pod.termination) if self.pod.exit_code is not None else None

    @property
    def time(self) -> float:
        """When the pod failed, as far as that is known."""
        pod = self.pod
        known = (pod.finished, pod.disrupted, pod.deleting, self.now)
        return next(time for time in known if time is not None)

    @property
    def where(self) -> str:
        return f"Pod {self.pod.name}" + (f" on {self.pod.node}" if self.pod.node else "")


Rule = Callable[[Evidence], Failure | None]


def diagnose(evidence: Iterable[Evidence], missing: Iterable[str], now: float) -> Failure | None:
    """The first failure of an attempt, or None. `missing`: names of pods that were there and are gone."""
    found = [failure for each in evidence if (failure := of_pod(each))]
    found += [_gone(name, now) for name in missing]
    return min(found, key=lambda failure: (failure.weight, failure.time, failure.pod or ""), default=None)


def of_pod(evidence: Evidence) -> Failure | None:
    """What the first rule that speaks says of this pod; None where nothing is wrong with it."""
    if evidence.pod.exit_code == ExitCode.DONE or (evidence.pod.phase == "Succeeded" and evidence.pod.exit_code is None):
        return None
    return next((failure for rule in RULES if (failure := rule(evidence))), None)


# ---- the rules, in order ---------------------------------------------------------------------------------------------------


def _said_it_itself(evidence: Evidence) -> Failure | None:
    """The agent left a verdict. Where it was told to stop, who told it is the cause, as far as the pod says."""
    verdict, pod = evidence.verdict, evidence.pod
    if verdict is None or pod.exit_code is None or pod.exit_code != verdict.exit_code:
        return None
    if pod.exit_code in STOPPED and not pod.told_by_nobody:
        return None
    retryable, charged, repeats, suspect = _BY_CODE.get(pod.exit_code, _UNKNOWN)
    lost_peer = verdict.reason == "NodeLost"
    return Failure(
        reason="PeerLost" if lost_peer else verdict.reason,
        message=verdict.message,
        time=evidence.time,
        pod=pod.name,
        node=verdict.node or pod.node,
        rank=verdict.first_failing_rank,
        step=verdict.step,
        exit_code=pod.exit_code,
        retryable=retryable,
        charged=charged,
        repeats=repeats and verdict.reason not in ("PreparationFailed", "NodeLost"),
        suspect=suspect and not lost_peer,
        graceful=not charged,
        stored_attempt=verdict.stored_attempt,
        weight=1 if lost_peer or not charged else 0,
    )


#                          retryable charged repeats suspect
_BY_CODE: dict[int, tuple[bool, bool, bool, bool]] = {
    ExitCode.RANK_FAILED: (True, True, True, True),
    ExitCode.CONFIG: (False, True, True, False),
    ExitCode.OUT_OF_MEMORY: (False, True, True, False),
    ExitCode.DIVERGED: (False, True, True, False),
    ExitCode.FENCED: (True, True, False, False),
    ExitCode.STORE: (True, True, False, False),
    ExitCode.SAVED: (True, False, False, False),
    ExitCode.HANG: (True, True, True, True),
    ExitCode.STOPPED_UNSAVED: (True, False, False, False),
}
_UNKNOWN = (True, True, True, True)


def _out_of_memory(evidence: Evidence) -> Failure | None:
    """The kernel's memory killer took the agent itself."""
    if evidence.pod.exit_reason != "OOMKilled":
        return None
    message = f"{evidence.where} used more memory than its limit and was killed."
    return _failure(evidence, "OutOfMemory", message, repeats=True)


def _node_lost(evidence: Evidence) -> Failure | None:
    pod, node = evidence.pod, evidence.node
    if not evidence.lost or pod.stopped or node is None:
        return None
    if not node.exists:
        how = "is gone from the cluster"
    elif node.out_of_service:
        how = "is marked out of service"
    else:
        how = f"has not been ready for {span(evidence.now - (node.not_ready_since or evidence.now))}"
    since = node.not_ready_since if node.not_ready_since is not None else evidence.now
    return _failure(evidence, "NodeLost", f"Node {node.name} {how}; pod {pod.name} ran on it.", time=since, suspect=True)


def _evicted(evidence: Evidence) -> Failure | None:
    """By the kubelet: the node ran short of something, or the pod passed a limit of its own, as it would on every node."""
    if evidence.pod.reason != "Evicted":
        return None
    said = _clause(evidence.pod.message, "no reason is given")
    message = f"{evidence.where} was evicted by the kubelet: {said}."
    if _OWN_LIMIT.search(said) and "low on resource" not in said:
        return _failure(evidence, "LimitExceeded", message, repeats=True)
    return _failure(evidence, "Evicted", message, suspect=True)


_OWN_LIMIT = re.compile(r"exceed", re.IGNORECASE)
"""The kubelet's words for a volume, a container or a pod above its limit, such as `Usage of EmptyDir volume "x" exceeds the limit`."""


def _disrupted(evidence: Evidence) -> Failure | None:
    """Somebody with the right to do so took the pod away: a scheduler, a queue, a drain, a node that shuts down."""
    pod = evidence.pod
    if pod.disruption is None:
        return None
    reason, verb = _DISRUPTIONS.get(pod.disruption, ("Preempted", "was taken away"))
    message = f"{evidence.where} {verb}: {_clause(pod.disruption_message, pod.disruption)}."
    gone = reason == "NodeLost"
    return _failure(evidence, reason, message, charged=gone, suspect=gone, graceful=not gone)


_DISRUPTIONS = {
    "PreemptionByScheduler": ("Preempted", "gave way to a pod of higher priority"),
    "EvictionByEvictionAPI": ("Drained", "was evicted, as a drain does"),
    "DeletionByTaintManager": ("Drained", "does not tolerate a taint of its node"),
    "DeletionByPodGC": ("NodeLost", "was on a node that is gone"),
    "TerminationByKubelet": ("Drained", "was ended by its kubelet, as a node does that shuts down"),
}


def _refused_by_node(evidence: Evidence) -> Failure | None:
    """The kubelet would not take it: a device is broken or given twice, or the node is too small after all."""
    pod = evidence.pod
    if pod.phase != "Failed" or pod.exit_code is not None or pod.started is not None or pod.reason is None:
        return None
    return _failure(evidence, "RefusedByNode", f"{evidence.where} was refused: {pod.reason}: {_clause(pod.message, '')}.", suspect=True)


def _never_began(evidence: Evidence) -> Failure | None:
    """The runtime could not start the command, most often because the image is none of a trainer."""
    if evidence.pod.exit_reason not in ("StartError", "ContainerCannotRun"):
        return None
    said = _clause(evidence.pod.termination, "no reason is given")
    said = re.sub(r"^.*(?=exec: )", "", said)  # each layer of the runtime puts words of its own in front
    return _failure(evidence, "ContainerNotStarted", f"{evidence.where} could not start its container: {said}.", repeats=True)


def _ended_without_verdict(evidence: Evidence) -> Failure | None:
    """An exit code alone, with the last lines of the log where the kubelet kept them."""
    pod = evidence.pod
    if pod.exit_code is None or (pod.deleting is not None and pod.exit_code in (137, *STOPPED)):
        return None
    last = f" Its last words: {_last_line(pod.termination)}" if pod.termination else ""
    if pod.exit_code > 128:
        return _signalled(evidence, pod.exit_code - 128, last)
    retryable, charged, repeats, suspect = _BY_CODE.get(pod.exit_code, _UNKNOWN)
    reason = _NAMES.get(pod.exit_code, "AgentFailed")
    message = f"{evidence.where} ended with code {pod.exit_code} and no verdict.{last}"
    return _failure(evidence, reason, message, retryable=retryable, charged=charged, repeats=repeats, suspect=suspect)


_NAMES: dict[int, str] = {
    ExitCode.CONFIG: "BadConfig",
    ExitCode.OUT_OF_MEMORY: "OutOfMemory",
    ExitCode.DIVERGED: "Diverged",
    ExitCode.FENCED: "Fenced",
    ExitCode.STORE: "StoreUnreachable",
    ExitCode.SAVED: "Saved",
    ExitCode.HANG: "Hang",
}


def _signalled(evidence: Evidence, number: int, last: str) -> Failure:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    own = number not in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    reason = "Crashed" if own else "Killed"
    words = last if own else ""  # what it said before somebody ended it says nothing of why
    return _failure(evidence, reason, f"{evidence.where} was ended by {name}.{words}", repeats=own, suspect=True)


def _deleted(evidence: Evidence) -> Failure | None:
    """By a person, or by a controller that is not ours."""
    if evidence.pod.deleting is None:
        return None
    return _failure(evidence, "PodDeleted", f"{evidence.where} was deleted.", graceful=True)


def _no_image(evidence: Evidence) -> Failure | None:
    pod = evidence.pod
    said = _clause(pod.waiting_message, pod.waiting or "")
    if pod.waiting in _NEVER_PULLED:
        return _failure(evidence, "BadImage", f"The image of pod {pod.name} cannot be used: {said}.", retryable=False)
    waited = evidence.now - (pod.created if pod.created is not None else evidence.now)
    if pod.waiting in _PULL and waited > IMAGE_PATIENCE:
        message = f"The image of pod {pod.name} could not be pulled for {span(waited)}: {said}."
        own = _NO_SUCH_IMAGE.search(said) is not None
        return _failure(evidence, "ImagePullFailed", message, suspect=not own, repeats=own)
    return None


_NO_SUCH_IMAGE = re.compile(r"not found|manifest unknown|unauthorized|denied|forbidden|authorization failed|authentication", re.IGNORECASE)
"""What a registry says of an image that no node can pull."""


def _failed_somehow(evidence: Evidence) -> Failure | None:
    pod = evidence.pod
    if pod.phase != "Failed":
        return None
    return _failure(evidence, "PodFailed", f"{evidence.where} failed: {pod.reason or 'no reason'}: {_clause(pod.message, 'no word')}.")


RULES: tuple[Rule, ...] = (
    _evicted,
    _said_it_itself,
    _out_of_memory,
    _node_lost,
    _disrupted,
    _refused_by_node,
    _never_began,
    _ended_without_verdict,
    _deleted,
    _no_image,
    _failed_somehow,
)


def _failure(
    evidence: Evidence,
    reason: str,
    message: str,
    *,
    time: float | None = None,
    retryable: bool = True,
    charged: bool = True,
    repeats: bool = False,
    suspect: bool = False,
    graceful: bool = False,
) -> Failure:
    pod = evidence.pod
    return Failure(
        reason=reason,
        message=message,
        time=evidence.time if time is None else time,
        pod=pod.name,
        node=pod.node,
        step=evidence.verdict.step if evidence.verdict else None,
        exit_code=pod.exit_code,
        retryable=retryable,
        charged=charged,
        repeats=repeats,
        suspect=suspect,
        graceful=graceful,
        weight=0,
    )


def _gone(name: str, now: float) -> Failure:
    return Failure(reason="PodDeleted", message=f"Pod {name} is gone: it was deleted.", time=now, pod=name, weight=1)


def _clause(text: str | None, otherwise: str) -> str:
    """On one line, without the full stop."""
    return " ".join((text or otherwise).split()).rstrip(".")[:2000]


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:500] if lines else ""


# ---- the same again --------------------------------------------------------------------------------------------------------


def same_again(failure: Failure, step: int | None, before: Recorded | None) -> bool:
    """Whether this is the failure of the attempt before, and training got no further in between. `step`: newest step done."""
    if before is None or not failure.repeats or failure.reason != before.reason:
        return False
    no_further = (step or 0) <= (before.step or 0)
    return no_further and _essence(failure.message, failure.node) == _essence(before.message, before.node)


def _essence(message: str, node: str | None) -> str:
    """The message without what differs from one attempt to the next: names of pods and nodes, numbers."""
    text = message.replace(node, "it") if node else message
    return re.sub(r"[0-9]+", "#", re.sub(r"\S+-a[0-9]+-[0-9]+", "pod", text))
