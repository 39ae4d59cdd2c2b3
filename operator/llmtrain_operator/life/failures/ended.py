"""Rules on pods that ended, or never began, by what their agents, containers and images say."""

from __future__ import annotations

import re
import signal

from llmtrain_operator.life.failures.failure import Evidence, Failure, clause, failed
from llmtrain_operator.life.failures.taken import SHUT_DOWN
from llmtrain_operator.life.observed import STOPPED
from llmtrain_operator.life.times import span
from llmtrain_trainer.config.failures import consequences, reason_of

IMAGE_PATIENCE = 600.0
"""Seconds after which an image that cannot be pulled frees the gang's other nodes."""

_PULL = ("ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError", "SignatureValidationFailed")
_NEVER_PULLED = ("InvalidImageName", "ErrImageNeverPull")


def said_it_itself(evidence: Evidence) -> Failure | None:
    """The agent left a verdict. Where it was told to stop, who told it is the cause, as far as the pod says."""
    verdict, pod = evidence.verdict, evidence.pod
    if verdict is None or pod.exit_code is None or pod.exit_code != verdict.exit_code:
        return None
    if pod.exit_code in STOPPED and (pod.disruption is not None or pod.deleting is not None or pod.reason in SHUT_DOWN):
        return None
    follows = consequences(verdict.reason, pod.exit_code)
    return Failure(
        reason=verdict.reason,
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
    """The kernel's memory killer took the agent itself: with less beside it on another node it may have room."""
    if evidence.pod.exit_reason != "OOMKilled":
        return None
    message = f"{evidence.where} used more memory than its limit and was killed."
    return failed(evidence, "OutOfMemory", message, retryable=True)


def never_began(evidence: Evidence) -> Failure | None:
    """The runtime could not start the command, most often because the image is none of a trainer."""
    if evidence.pod.exit_reason not in ("StartError", "ContainerCannotRun"):
        return None
    said = clause(evidence.pod.termination, "no reason is given")
    said = re.sub(r"^.*(?=exec: )", "", said)  # each layer of the runtime puts words of its own in front
    return failed(evidence, "ContainerNotStarted", f"{evidence.where} could not start its container: {said}.")


def ended_without_verdict(evidence: Evidence) -> Failure | None:
    """An exit code alone, with the last lines of the log where the kubelet kept them."""
    pod = evidence.pod
    if pod.exit_code is None or (pod.deleting is not None and pod.exit_code in (137, *STOPPED)):
        return None
    last = f" Its last words: {_last_line(pod.termination)}" if pod.termination else ""
    if pod.exit_code > 128:
        return _signalled(evidence, pod.exit_code - 128, last)
    message = f"{evidence.where} ended with code {pod.exit_code} and no verdict.{last}"
    return failed(evidence, reason_of(pod.exit_code), message, graceful=False)


def _signalled(evidence: Evidence, number: int, last: str) -> Failure:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    own = number not in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    reason = "Crashed" if own else "Killed"
    words = last if own else ""  # what it said before somebody ended it says nothing of why
    return failed(evidence, reason, f"{evidence.where} was ended by {name}.{words}")


def no_image(evidence: Evidence) -> Failure | None:
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
"""What a registry says of an image that no node can pull."""


def failed_somehow(evidence: Evidence) -> Failure | None:
    pod = evidence.pod
    if pod.phase != "Failed":
        return None
    return failed(evidence, "PodFailed", f"{evidence.where} failed: {pod.reason or 'no reason'}: {clause(pod.message, 'no word')}.")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:500] if lines else ""
