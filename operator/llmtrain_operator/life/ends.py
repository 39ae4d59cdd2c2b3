"""How pods are ended, and what else several policies share. Used by decide.py and others.py."""

from __future__ import annotations

from dataclasses import replace

from llmtrain_operator.job.spec import Phase
from llmtrain_operator.life.decision import Action, Decision, Deletion, stop
from llmtrain_operator.life.gang import Gang
from llmtrain_operator.life.observed import Pod

FAILED_GRACE = 10.0
"""Seconds for the other pods of a gang that failed: without the failed rank they cannot save.

Most end by themselves in one or two. The rest is for a save that only has to be sent, and it ends ranks that hang in an exchange with
the dead one, which their agent cannot tell from a long step."""


def ended_as(gang: Gang) -> Phase | None:
    """Complete or Failed, which is never left; None where the job goes on."""
    status = gang.job.status
    held = {condition.type for condition in status.conditions if condition.status == "True"}
    if status.phase == "Complete" or "Complete" in held:
        return "Complete"
    return "Failed" if status.phase == "Failed" or "Failed" in held else None


def stopping(gang: Gang, said: Decision, grace: float | None) -> Decision:
    """End whatever may still run; pods on dead nodes by force, since nobody there can confirm it."""
    told = deletions(gang, gang.may_run_now, grace)
    return replace(said, action=Action.DELETE_PODS, delete=told) if told else said


def deletions(gang: Gang, pods: tuple[Pod, ...], grace: float | None) -> tuple[Deletion, ...]:
    """Of pods that were not told to end yet, or were given longer; those on nodes given up for dead by force."""
    lost = [pod for pod in pods if gang.lost(pod)]
    return (*stop(lost, 0.0), *stop([pod for pod in pods if pod not in lost], grace))


def created(gang: Gang) -> float:
    """When the newest attempt's last pod was created."""
    return max((pod.created for pod in gang.pods.values() if pod.created is not None), default=gang.observed.now)


def pods_word(count: int) -> str:
    """1 pod, 2 pods."""
    return "1 pod" if count == 1 else f"{count} pods"
