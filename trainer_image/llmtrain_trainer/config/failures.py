"""Every reason for which an attempt or a job ends, once: what an agent's exit code says of it, what follows, and what a person can do.

The agent ends with a reason and its exit code; the operator decides by the same row whether to start again, against which budget, and on
which nodes. A reason more is a row here and the line that gives it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from llmtrain_trainer.config.status import ExitCode, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Consequences:
    """What follows from a reason. The rule that finds a failure may know better for its case, and says so."""

    exit_code: ExitCode | None = None
    """With which an agent ends for this reason; None: the operator concludes it from pods and nodes."""

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

    consequence: bool = False
    """Whether it only follows from what befell another pod, whose own reason says more."""

    remedy: str
    """One sentence for a person; {job} and {rank} are filled in."""


_TOLD = "Put right what it names, then submit the job under a new name."

FAILURES: dict[str, Consequences] = {
    # the agent's exit code 1: its first row is what the operator calls an agent that ended without a verdict
    "AgentFailed": Consequences(
        exit_code=ExitCode.RANK_FAILED,
        repeats=True,
        suspect=True,
        remedy="Look at what the agent said last: `llmtrain logs {job} --node 0`.",
    ),
    "RankFailed": Consequences(
        exit_code=ExitCode.RANK_FAILED,
        repeats=True,
        suspect=True,
        remedy="Look at what the rank said last: `llmtrain logs {job} --rank {rank}`.",
    ),
    "PreflightFailed": Consequences(
        exit_code=ExitCode.RANK_FAILED,
        repeats=True,
        suspect=True,
        remedy="Put right what it names: it is checked before anything else starts.",
    ),
    "PreparationFailed": Consequences(
        exit_code=ExitCode.RANK_FAILED,
        suspect=True,
        remedy="Look at `llmtrain logs {job}`: lines marked [prepare] come from it.",
    ),
    "PeerLost": Consequences(
        exit_code=ExitCode.RANK_FAILED,
        consequence=True,
        remedy="Look at the other pods' last words: `llmtrain logs {job}`; if all are silent, at the network between their nodes.",
    ),
    # starting again cannot help
    "BadConfig": Consequences(exit_code=ExitCode.CONFIG, retryable=False, repeats=True, remedy=_TOLD),
    "BadData": Consequences(
        exit_code=ExitCode.CONFIG,
        retryable=False,
        repeats=True,
        remedy="Put the data right, then submit the job under a new name.",
    ),
    "NoGoodCheckpoint": Consequences(
        exit_code=ExitCode.CONFIG,
        retryable=False,
        repeats=True,
        remedy="Bring the files back, or submit it under a new name with spec.checkpoint.resume: none to begin at step 0.",
    ),
    "OutOfMemory": Consequences(
        exit_code=ExitCode.OUT_OF_MEMORY,
        retryable=False,
        repeats=True,
        remedy="Use a smaller micro-batch or sequence, or cut the model further: `llmtrain plan` says what fits.",
    ),
    "Diverged": Consequences(
        exit_code=ExitCode.DIVERGED,
        retryable=False,
        repeats=True,
        remedy="Lower spec.training.optimizer.learningRate or look at that step's data; a new name goes on from the last checkpoint.",
    ),
    "BadImage": Consequences(retryable=False, remedy="Put spec.scheduling.image right and submit the job under a new name."),
    # other endings that an agent tells of
    "Fenced": Consequences(
        exit_code=ExitCode.FENCED,
        remedy="The next attempt goes on. If it comes again: give each job a spec.checkpoint.destination of its own.",
    ),
    "DestinationInUse": Consequences(
        exit_code=ExitCode.FENCED,
        charged=False,
        remedy="Wait, or submit it again with a destination of its own, for its checkpoints or its exports as the sentence says.",
    ),
    "StoreUnreachable": Consequences(
        exit_code=ExitCode.STORE,
        remedy="Check spec.checkpoint.destination, its secret and its endpoint.",
    ),
    "Hang": Consequences(
        exit_code=ExitCode.HANG,
        repeats=True,
        suspect=True,
        remedy="The stacks of all ranks are in their logs: `llmtrain logs {job} --rank {rank}`.",
    ),
    "Saved": Consequences(
        exit_code=ExitCode.SAVED,
        charged=False,
        graceful=True,
        consequence=True,
        remedy="Nothing: it was told to stop, saved, and goes on from there.",
    ),
    "StoppedUnsaved": Consequences(
        exit_code=ExitCode.STOPPED_UNSAVED,
        charged=False,
        graceful=True,
        consequence=True,
        remedy="Set spec.checkpoint to lose less: what was trained since the last checkpoint is trained again.",
    ),
    # pods that ended, or never began, without a word of their agents
    "Crashed": Consequences(
        repeats=True,
        suspect=True,
        remedy="Look at the last lines of `llmtrain logs {job}`: a fault in native code, most often of a driver or a kernel library.",
    ),
    "Killed": Consequences(
        suspect=True,
        remedy="Look at the node's own log (`journalctl -k`): its memory killer, or a person, ended the process.",
    ),
    "ContainerNotStarted": Consequences(
        repeats=True,
        remedy="spec.scheduling.image must hold the trainer: `python -m llmtrain_trainer --help` must run in it.",
    ),
    "ImagePullFailed": Consequences(
        suspect=True,
        remedy="Check the name, and spec.scheduling.imagePullSecrets for a private registry; it is tried again by itself.",
    ),
    "PodFailed": Consequences(remedy="`kubectl describe pod` shows what Kubernetes knows of it."),
    # pods that were taken away or refused
    "NodeLost": Consequences(suspect=True, remedy="Nothing: it goes on elsewhere from the last checkpoint."),
    "RefusedByNode": Consequences(
        suspect=True,
        remedy="Look at the node's devices: `kubectl describe node`; the job keeps away from it if it can.",
    ),
    "Evicted": Consequences(
        suspect=True,
        remedy="Ask for the memory it needs in spec.resources.memory, or free the node's disk; the job keeps away from it if it can.",
    ),
    "LimitExceeded": Consequences(
        repeats=True,
        remedy="Raise the limit that it names, or write less: it would be evicted on every node.",
    ),
    "StoppedFromOutside": Consequences(
        suspect=True,
        graceful=True,
        remedy="Look what keeps the kubelet from port 9400 of the pods: `kubectl get events` shows failed probes.",
    ),
    "PodDeleted": Consequences(
        graceful=True,
        remedy="Find out who deletes the job's pods; `llmtrain suspend {job}` is how to stop it.",
    ),
    "Drained": Consequences(charged=False, graceful=True, remedy="Nothing: it goes on elsewhere from what it saved."),
    "Preempted": Consequences(
        charged=False,
        graceful=True,
        remedy="Wait for room; spec.scheduling.priorityClassName decides who gives way.",
    ),
    # the gang and the job as a whole
    "GangIncomplete": Consequences(
        charged=False,
        remedy="Free the nodes it lacks, or ask for fewer; a scheduler of gangs, such as Kueue, keeps the others free meanwhile.",
    ),
    "StartupDeadline": Consequences(
        graceful=True,
        remedy="Put right what held it up, or raise spec.startupDeadlineSeconds.",
    ),
    "RestartBudgetSpent": Consequences(
        retryable=False,
        remedy="Put right what it names; resilience.restarts.max allows more. Submit it under a new name to go on.",
    ),
    "DeadlineExceeded": Consequences(
        retryable=False,
        remedy="Raise spec.activeDeadlineSeconds, and submit it under a new name to go on from its last checkpoint.",
    ),
}

_BY_CODE: Mapping[int, str] = {row.exit_code: reason for reason, row in reversed(FAILURES.items()) if row.exit_code is not None}


def reason_of(exit_code: int) -> str:
    """The reason that an exit code means where nothing else is known."""
    return _BY_CODE.get(exit_code, "AgentFailed")


def consequences(reason: str, exit_code: int) -> Consequences:
    """What follows where an agent gave this reason and ended with this code; where they do not belong together, the code counts."""
    row = FAILURES.get(reason)
    return row if row is not None and row.exit_code == exit_code else FAILURES[reason_of(exit_code)]


def verdict_for(reason: str, message: str, *, code: ExitCode | None = None, **facts: Any) -> Verdict:
    """The verdict of an agent that ends for this reason. `code`: where another than the reason's own tells what follows."""
    code = FAILURES[reason].exit_code if code is None else code
    assert code is not None, f"no agent ends for {reason}"
    return Verdict(exit_code=code, reason=reason, message=message, **facts)


RankFailureKind = Literal["crash", "killed", "oom", "config", "data", "unreachable", "hang", "peer"]
"""Class of what went wrong in one process. unreachable: a source did not answer, so a later try may go well; peer: it lost the connection
to another rank, so the cause is elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankFailureTraits:
    """What the agents of a gang make of a failure of one rank."""

    reason: str = "RankFailed"
    """Of the verdict, once it is not tried again."""

    said: str = "failed after step {step}: {message}"
    """What the rank did, as a sentence's end."""

    repeats: bool = False
    """Whether the same error at the same step says that it would come again: a kill from outside does not."""

    order: int = 2
    """Of failures seen together the one with the lowest is the cause."""


RANK_FAILURES: Mapping[RankFailureKind, RankFailureTraits] = {
    "crash": RankFailureTraits(repeats=True),
    "killed": RankFailureTraits(said="ended by {message} after step {step}", order=1),
    "oom": RankFailureTraits(reason="OutOfMemory", said="ran out of memory after step {step}: {message}", order=0),
    "config": RankFailureTraits(reason="BadConfig"),
    "data": RankFailureTraits(reason="BadData"),
    "unreachable": RankFailureTraits(),
    "hang": RankFailureTraits(reason="Hang", said="did not end a step after step {step}: {message}", repeats=True),
    "peer": RankFailureTraits(said="lost a peer after step {step}: {message}", order=3),
}

RESTARTED: tuple[RankFailureKind, ...] = tuple(kind for kind, row in RANK_FAILURES.items() if FAILURES[row.reason].retryable)
"""The kinds after which ranks start again in place."""
