"""Rules for pods that ended or never started, by the words of their agents, containers and images."""

from __future__ import annotations

import re
import signal

from llmtrain_operator.life.failures.failure import Evidence, Failure, clause, failed
from llmtrain_operator.life.failures.taken import SHUT_DOWN
from llmtrain_operator.life.observed import STOPPED
from llmtrain_trainer.config.formats import span
from llmtrain_trainer.config.tables.failures import consequences, reason_of

IMAGE_PATIENCE = 600.0
"""Seconds after which an image that cannot be pulled ends the attempt, so that the gang's other nodes are free."""

_PULL = ("ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError", "SignatureValidationFailed")
_NEVER_PULLED = ("InvalidImageName", "ErrImageNeverPull")

_OF_OTHERS = {"NodeLost": "PeerLost"}
"""What an agent, which lives, can mean of other nodes alone -> its name."""


def said_it_itself(evidence: Evidence) -> Failure | None:
    """The agent left a verdict. If it was told to stop and the pod says by whom, that is the cause, and this rule does not apply."""
    verdict, pod = evidence.verdict, evidence.pod
    if verdict is None or pod.exit_code is None or pod.exit_code != verdict.exit_code:
        return None
    if pod.exit_code in STOPPED and (pod.disruption is not None or pod.deleting is not None or pod.reason in SHUT_DOWN):
        return None
    reason = _OF_OTHERS.get(verdict.reason, verdict.reason)
    follows = consequences(reason, pod.exit_code)
    return Failure(
        reason=reason,
        message=verdict.message,
        time=evidence.time,
        pod=pod.name,
        node=verdict.node or pod.node,
        rank=verdict.first_failing_rank,
        step=verdict.step,
        exit_code=pod.exit_code,
        retryable=follows.retryable,
        charged=follows.charged,
        repeats=follows.repeats,
        suspect=follows.suspect,
        graceful=follows.graceful,
        stored_attempt=verdict.stored_attempt,
        weight=int(follows.consequence),
    )


def out_of_memory(evidence: Evidence) -> Failure | None:
    """The kernel's OOM killer ended the agent itself. On another node, with less running beside it, it may have room."""
    if evidence.pod.exit_reason != "OOMKilled":
        return None
    message = f"{evidence.where} used more memory than its limit and was killed."
    return failed(evidence, "OutOfMemory", message, retryable=True)


def never_began(evidence: Evidence) -> Failure | None:
    """The runtime could not start the command, usually because the image does not contain the trainer."""
    if evidence.pod.exit_reason not in ("StartError", "ContainerCannotRun"):
        return None
    said = clause(evidence.pod.termination, "no reason is given")
    said = re.sub(r"^.*(?=exec: )", "", said)  # each layer of the runtime adds a prefix of its own
    return failed(evidence, "ContainerNotStarted", f"{evidence.where} could not start its container: {said}.")


def ended_without_verdict(evidence: Evidence) -> Failure | None:
    """Only an exit code is known, and the last lines of the log if the kubelet kept them."""
    pod = evidence.pod
    if pod.exit_code is None or (pod.deleting is not None and pod.exit_code in (137, *STOPPED)):
        return None
    last = f" The last line of its log: {_last_line(pod.termination)}" if pod.termination else ""
    if pod.exit_code > 128:
        return _signalled(evidence, pod.exit_code - 128, last)
    message = f"{evidence.where} ended with exit code {pod.exit_code} and no verdict.{last}"
    return failed(evidence, reason_of(pod.exit_code), message, graceful=False)


def _signalled(evidence: Evidence, number: int, last: str) -> Failure:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    own = number not in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    reason = "Crashed" if own else "Killed"
    words = last if own else ""  # when it was ended from outside, its log does not say why
    return failed(evidence, reason, f"{evidence.where} was ended by {name}.{words}")


def no_image(evidence: Evidence) -> Failure | None:
    """The image does not exist, or could not be pulled within IMAGE_PATIENCE."""
    pod = evidence.pod
    said = clause(pod.waiting_message, pod.waiting or "")
    if pod.waiting in _NEVER_PULLED:
        return failed(evidence, "BadImage", f"The image of pod {pod.name} cannot be used: {said}.")
    waited = evidence.now - (pod.created if pod.created is not None else evidence.now)
    if pod.waiting in _PULL and waited > IMAGE_PATIENCE:
        message = f"The image of pod {pod.name} could not be pulled for {span(waited)}: {said}."
        own = _NO_SUCH_IMAGE.search(said) is not None
        return failed(evidence, "ImagePullFailed", message, suspect=not own, repeats=own)
    return None


_NO_SUCH_IMAGE = re.compile(r"not found|manifest unknown|unauthorized|denied|forbidden|authorization failed|authentication", re.IGNORECASE)
"""Answers of a registry that mean that no node can pull the image."""


def failed_somehow(evidence: Evidence) -> Failure | None:
    pod = evidence.pod
    if pod.phase != "Failed":
        return None
    said = f"{pod.reason or 'no reason is given'}: {clause(pod.message, 'no message is given')}"
    return failed(evidence, "PodFailed", f"{evidence.where} failed: {said}.")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:500] if lines else ""
