"""Every reason for which an attempt or a job ends: its exit code, its consequences, and what a person can do about it.

The agent exits with a reason and its exit code. The operator reads the same row to decide whether to start the job again, whether that
counts against the budget, and which nodes to avoid. To add a reason, add a row here and return it where the failure is found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from llmtrain_trainer.config.status import ExitCode, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Consequences:
    """What follows from a reason. The rule that finds a failure may override it for its case."""

    exit_code: ExitCode | None = None
    """Exit code of an agent that ends for this reason; None: the operator finds the reason from pods and nodes."""

    retryable: bool = True
    """Whether another attempt may succeed."""

    charged: bool = True
    """Whether a restart counts against the budget."""

    repeats: bool = False
    """Whether the job itself may be the cause, so that the same failure again without progress ends the job."""

    suspect: bool = False
    """Whether the node may be the cause, so that the next attempt avoids it."""

    graceful: bool = False
    """Whether the gang was asked to stop and may still be saving."""

    consequence: bool = False
    """Whether it is only a consequence of another pod's failure, whose reason says more."""

    remedy: str
    """One sentence for a person; {job} and {rank} are filled in."""


_TOLD = "Fix what the message names, then submit the job under a new name."

FAILURES: dict[str, Consequences] = {
    # the agent's exit code 1: its first row is what the operator calls an agent that ended without a verdict
    "AgentFailed": Consequences(
        exit_code=ExitCode.RANK_FAILED,
        repeats=True,
        suspect=True,
        remedy="Read the end of the agent's log: `llmtrain logs {job} --node 0`.",
    ),
    "RankFailed": Consequences(
        exit_code=ExitCode.RANK_FAILED,
        repeats=True,
        suspect=True,
        remedy="Read the end of the rank's log: `llmtrain logs {job} --rank {rank}`.",
    ),
    "PreflightFailed": Consequences(
        exit_code=ExitCode.RANK_FAILED,
        repeats=True,
        suspect=True,
        remedy="Fix what the message names; it is checked before anything else starts.",
    ),
    "PreparationFailed": Consequences(
        exit_code=ExitCode.RANK_FAILED,
        suspect=True,
        remedy="Read the lines marked [prepare] in `llmtrain logs {job}`.",
    ),
    "PeerLost": Consequences(
        exit_code=ExitCode.RANK_FAILED,
        consequence=True,
        remedy="Read the end of the other pods' logs: `llmtrain logs {job}`. If they report no error, check the network between the nodes.",
    ),
    # another attempt would fail in the same way
    "BadConfig": Consequences(exit_code=ExitCode.CONFIG, retryable=False, repeats=True, remedy=_TOLD),
    "BadData": Consequences(
        exit_code=ExitCode.CONFIG,
        retryable=False,
        repeats=True,
        remedy="Fix the data, then submit the job under a new name.",
    ),
    "NoGoodCheckpoint": Consequences(
        exit_code=ExitCode.CONFIG,
        retryable=False,
        repeats=True,
        remedy="Restore the files, or submit the job under a new name with spec.checkpoint.resume: none to start from step 0.",
    ),
    "OutOfMemory": Consequences(
        exit_code=ExitCode.OUT_OF_MEMORY,
        retryable=False,
        repeats=True,
        remedy="Use a smaller micro-batch or a shorter sequence, or shard the model over more devices: `llmtrain plan` shows what fits.",
    ),
    "Diverged": Consequences(
        exit_code=ExitCode.DIVERGED,
        retryable=False,
        repeats=True,
        remedy="Lower spec.training.optimizer.learningRate or check the data of that step, then submit the job under a new name to resume "
        "from the last checkpoint.",
    ),
    "BadImage": Consequences(retryable=False, remedy="Fix spec.scheduling.image and submit the job under a new name."),
    # other ends that an agent reports
    "Fenced": Consequences(
        exit_code=ExitCode.FENCED,
        remedy="The next attempt continues. If it happens again, give each job its own spec.checkpoint.destination.",
    ),
    "DestinationInUse": Consequences(
        exit_code=ExitCode.FENCED,
        charged=False,
        remedy="Wait, or submit the job again with its own destination for checkpoints or exports, whichever the message names.",
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
        remedy="Nothing to do: it was asked to stop, saved a checkpoint, and resumes from it.",
    ),
    "StoppedUnsaved": Consequences(
        exit_code=ExitCode.STOPPED_UNSAVED,
        charged=False,
        graceful=True,
        consequence=True,
        remedy="Set spec.checkpoint to lose less: steps since the last checkpoint are trained again.",
    ),
    # pods that ended, or never started, without a verdict
    "Crashed": Consequences(
        repeats=True,
        suspect=True,
        remedy="Read the last lines of `llmtrain logs {job}`: native code crashed, most often a driver or a kernel library.",
    ),
    "Killed": Consequences(
        suspect=True,
        remedy="Read the node's kernel log (`journalctl -k`): the OOM killer, or a person, ended the process.",
    ),
    "ContainerNotStarted": Consequences(
        repeats=True,
        remedy="spec.scheduling.image must hold the trainer: `python -m llmtrain_trainer --help` must run in it.",
    ),
    "ImagePullFailed": Consequences(
        suspect=True,
        remedy="Check the name, and spec.scheduling.imagePullSecrets for a private registry; the pull is retried automatically.",
    ),
    "PodFailed": Consequences(remedy="`kubectl describe pod` shows what Kubernetes knows about it."),
    # pods that were taken away or refused
    "NodeLost": Consequences(suspect=True, remedy="Nothing to do: it resumes on other nodes from the last checkpoint."),
    "RefusedByNode": Consequences(
        suspect=True,
        remedy="Check the node's devices: `kubectl describe node`. The job avoids this node if it can.",
    ),
    "Evicted": Consequences(
        suspect=True,
        remedy="Request the memory it needs in spec.resources.memory, or free disk space on the node. The job avoids this node if it can.",
    ),
    "LimitExceeded": Consequences(
        repeats=True,
        remedy="Raise the limit that the message names, or write less: it would be evicted on every node.",
    ),
    "StoppedFromOutside": Consequences(
        suspect=True,
        graceful=True,
        remedy="Find out why the kubelet cannot reach port 9400 of the pods: `kubectl get events` shows failed probes.",
    ),
    "PodDeleted": Consequences(
        graceful=True,
        remedy="Find out who deletes the job's pods. To stop a job, use `llmtrain suspend {job}`.",
    ),
    "Drained": Consequences(charged=False, graceful=True, remedy="Nothing to do: it resumes on other nodes from the checkpoint it saved."),
    "Preempted": Consequences(
        charged=False,
        graceful=True,
        remedy="Wait for free resources; spec.scheduling.priorityClassName decides which job is preempted.",
    ),
    # the gang and the job as a whole
    "GangIncomplete": Consequences(
        charged=False,
        remedy="Free the missing nodes, or request fewer. A gang scheduler, such as Kueue, keeps the other nodes free meanwhile.",
    ),
    "StartupDeadline": Consequences(
        graceful=True,
        remedy="Fix what delayed the start, or raise spec.startupDeadlineSeconds.",
    ),
    "RestartBudgetSpent": Consequences(
        retryable=False,
        remedy="Fix what the message names, then submit the job under a new name to resume. resilience.restarts.max allows more restarts.",
    ),
    "DeadlineExceeded": Consequences(
        retryable=False,
        remedy="Raise spec.activeDeadlineSeconds, and submit the job under a new name to resume from its last checkpoint.",
    ),
}

_BY_CODE: Mapping[int, str] = {row.exit_code: reason for reason, row in reversed(FAILURES.items()) if row.exit_code is not None}


def reason_of(exit_code: int) -> str:
    """The reason that an exit code stands for if no verdict was read."""
    return _BY_CODE.get(exit_code, "AgentFailed")


def consequences(reason: str, exit_code: int) -> Consequences:
    """What follows if an agent gave this reason and exited with this code; if they do not belong together, the code counts."""
    row = FAILURES.get(reason)
    return row if row is not None and row.exit_code == exit_code else FAILURES[reason_of(exit_code)]


def verdict_for(reason: str, message: str, *, code: ExitCode | None = None, **facts: Any) -> Verdict:
    """The verdict of an agent that ends for this reason. `code` overrides the exit code of the reason."""
    code = FAILURES[reason].exit_code if code is None else code
    assert code is not None, f"no agent ends for {reason}"
    return Verdict(exit_code=code, reason=reason, message=message, **facts)


RankFailureKind = Literal["crash", "killed", "oom", "config", "data", "unreachable", "hang", "peer"]
"""Class of a failure of one process. unreachable: a source did not answer, so a retry may succeed; peer: it lost the connection to another
rank, so the cause is elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankFailureTraits:
    """How the agents of a gang treat a failure of one rank."""

    reason: str = "RankFailed"
    """Reason of the verdict, once the rank is not restarted."""

    said: str = "failed after step {step}: {message}"
    """What the rank did: the predicate of a sentence."""

    repeats: bool = False
    """Whether the same error at the same step shows that it is deterministic; a kill from outside does not."""

    order: int = 2
    """Of several failures at once, the one with the lowest order is the cause."""


RANK_FAILURES: Mapping[RankFailureKind, RankFailureTraits] = {
    "crash": RankFailureTraits(repeats=True),
    "killed": RankFailureTraits(said="ended by {message} after step {step}", order=1),
    "oom": RankFailureTraits(reason="OutOfMemory", said="ran out of memory after step {step}: {message}", order=0),
    "config": RankFailureTraits(reason="BadConfig"),
    "data": RankFailureTraits(reason="BadData"),
    "unreachable": RankFailureTraits(),
    "hang": RankFailureTraits(reason="Hang", said="finished no step after step {step}: {message}", repeats=True),
    "peer": RankFailureTraits(said="lost a peer after step {step}: {message}", order=3),
}

RESTARTED: tuple[RankFailureKind, ...] = tuple(kind for kind, row in RANK_FAILURES.items() if FAILURES[row.reason].retryable)
"""The kinds of failure after which ranks restart in place."""
