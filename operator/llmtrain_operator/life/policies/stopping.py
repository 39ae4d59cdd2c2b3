"""How pods are ended, and what else several policies share."""

from __future__ import annotations

from dataclasses import replace

from llmtrain_operator.api.job import Phase
from llmtrain_operator.life.attempt import Gang
from llmtrain_operator.life.decision import Action, Decision, Deletion, stop
from llmtrain_operator.life.observed import Pod

FAILED_GRACE = 10.0
"""Seconds for the other pods of a gang that failed: without the failed rank they cannot save.

Most end by themselves in one or two. The rest is for a save that only has to be sent, and it ends ranks that hang in an exchange with
the dead one, which their agent cannot tell from a long step."""


HELD_PATIENCE, HELD_LOOK = 30.0, 15.0
"""Seconds after which a pod that has not ended with its trainer is kept by something else, and past its time is deleted by force; and
between looks at it."""


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


def tidied(gang: Gang, said: Decision) -> Decision:
    """The decision, with what attempts that are over leave behind: pods that hold devices though their trainers ended, since another
    container runs on in them; and, where nothing runs or will for now, whatever is older than the last logs."""
    if said.action is Action.LEAVE_ALONE:
        return said
    ended = max(gang.job.status.ended_attempt or 0, said.ends or 0)
    lingers = [pod for pod in gang.mine if pod.attempt <= ended and pod.exit_code is not None and not pod.ended]
    held = [pod for pod in lingers if pod.beside or gang.observed.now - (pod.finished or 0.0) >= HELD_PATIENCE]
    at_rest = said.phase in ("Complete", "Failed", "Suspended") and not gang.may_run_now
    old = [pod for pod in gang.mine if at_rest and pod.attempt < gang.number and pod.ended]
    more = (*_let_go(gang, held), *stop(old, None))
    told = (*said.delete, *(each for each in more if each.name not in {other.name for other in said.delete}))
    return replace(
        said,
        action=Action.DELETE_PODS if said.action is Action.NOTHING and told else said.action,
        delete=told,
        held=_held(held) if more and held else None,
        clears=0 if gang.may_run_now else ended,
        again_in=min(HELD_LOOK, HELD_LOOK if said.again_in is None else said.again_in) if lingers else said.again_in,
    )


def _let_go(gang: Gang, held: list[Pod]) -> tuple[Deletion, ...]:
    """In order first; one that is still there long after its time is deleted by force: nothing of ours runs in it any more."""
    late = [pod for pod in held if pod.deleting is not None and gang.observed.now - pod.deleting > HELD_PATIENCE and pod.grace != 0]
    return (
        *(Deletion(name=pod.name, uid=pod.uid, grace=0.0) for pod in late),
        *stop([pod for pod in held if pod not in late], FAILED_GRACE),
    )


def _held(held: list[Pod]) -> str:
    names = ", ".join(sorted({name for pod in held for name in pod.beside})) or "another container"
    first = held[0].name + (f" and {len(held) - 1} more" if len(held) > 1 else "")
    return f"Pod {first}: the trainer has ended and {names} runs on, which would keep the devices: the pod is deleted, its logs with it."


def created(gang: Gang) -> float:
    """When the newest attempt's last pod was created."""
    return max((pod.created for pod in gang.pods.values() if pod.created is not None), default=gang.observed.now)


def pods_word(count: int) -> str:
    """1 pod, 2 pods."""
    return "1 pod" if count == 1 else f"{count} pods"
