"""How pods are ended, and functions that several policies share."""

from __future__ import annotations

from dataclasses import replace

from llmtrain_operator.api.job import Phase
from llmtrain_operator.api.phases import FINAL
from llmtrain_operator.life.attempt import AttemptView
from llmtrain_operator.life.decision import Action, Decision, Deletion, stop
from llmtrain_operator.life.observed import Pod

FAILED_GRACE = 10.0
"""Grace period, in seconds, of the other pods of a gang that failed: without the failed rank they cannot save.

Most end by themselves within two seconds. The rest leaves time to upload a save that is already complete, and ends ranks that hang in a
collective with the dead one, which their agent cannot distinguish from a long step."""


HELD_PATIENCE, HELD_LOOK = 30.0, 15.0
"""Seconds after which a pod whose trainer has ended counts as held by another container, and after whose grace period it is deleted by
force; and seconds between observations of it."""


def ended_as(gang: AttemptView) -> Phase | None:
    """Complete or Failed, which are final; None if the job is not over."""
    status = gang.job.status
    held = {condition.type for condition in status.conditions if condition.status == "True"}
    if status.phase == "Complete" or "Complete" in held:
        return "Complete"
    return "Failed" if status.phase == "Failed" or "Failed" in held else None


def stopping(gang: AttemptView, said: Decision, grace: float | None) -> Decision:
    """The decision, with deletion of all pods that may still run; pods on lost nodes are deleted by force, since no kubelet confirms it."""
    told = deletions(gang, gang.may_run_now, grace)
    return replace(said, action=Action.DELETE_PODS, delete=told) if told else said


def deletions(gang: AttemptView, pods: tuple[Pod, ...], grace: float | None) -> tuple[Deletion, ...]:
    """Deletions of pods that were not told to end yet, or with a longer grace period; by force on lost nodes."""
    lost = [pod for pod in pods if gang.lost(pod)]
    return (*stop(lost, 0.0), *stop([pod for pod in pods if pod not in lost], grace))


def tidied(gang: AttemptView, said: Decision) -> Decision:
    """The decision, with clean-up of attempts that are over: pods that hold devices because another container runs after the trainer ended;
    and, while the job is at rest, pods older than the newest attempt, whose logs are kept."""
    if said.action is Action.LEAVE_ALONE:
        return said
    ended = max(gang.job.status.ended_attempt or 0, said.ends or 0)
    lingers = [pod for pod in gang.mine if pod.attempt <= ended and pod.exit_code is not None and not pod.ended]
    held = [pod for pod in lingers if pod.beside or gang.observed.now - (pod.finished or 0.0) >= HELD_PATIENCE]
    at_rest = said.phase in (*FINAL, "Suspended") and not gang.may_run_now
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


def _let_go(gang: AttemptView, held: list[Pod]) -> tuple[Deletion, ...]:
    """Deletions of held pods, with a grace period first; by force long after that, since the trainer in them has ended."""
    late = [pod for pod in held if pod.deleting is not None and gang.observed.now - pod.deleting > HELD_PATIENCE and pod.grace != 0]
    return (
        *(Deletion(name=pod.name, uid=pod.uid, grace=0.0) for pod in late),
        *stop([pod for pod in held if pod not in late], FAILED_GRACE),
    )


def _held(held: list[Pod]) -> str:
    names = ", ".join(sorted({name for pod in held for name in pod.beside})) or "another container"
    first = held[0].name + (f" and {len(held) - 1} more" if len(held) > 1 else "")
    return f"Pod {first}: the trainer has ended, but {names} still runs and keeps the devices: the pod is deleted, with its logs."


def phase_of(gang: AttemptView) -> Phase:
    """The phase that the status says."""
    return gang.job.status.phase or "Pending"


def created(gang: AttemptView) -> float:
    """When the newest attempt's last pod was created."""
    return max((pod.created for pod in gang.pods.values() if pod.created is not None), default=gang.observed.now)


def pods_word(count: int) -> str:
    """1 pod, 2 pods."""
    return "1 pod" if count == 1 else f"{count} pods"
