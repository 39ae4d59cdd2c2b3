"""Where the time went: seconds and GPU-hours by cause, from one observation to the next.

The account lives in .status.goodput, so it survives the operator.
"""

from __future__ import annotations

from collections.abc import Mapping

from llmtrain_operator.api.job import Status
from llmtrain_operator.api.job.status import Goodput
from llmtrain_operator.api.phases import FINAL
from llmtrain_operator.life.attempt import AttemptView
from llmtrain_operator.life.times import seconds_of, text_of
from llmtrain_trainer.config.tables.time_accounts import TimeState, goodput_of, total_of, while_training

HUNG_STEPS, HUNG_FLOOR = 10.0, 60.0
"""Time without a step counts as hung after ten times the last step's time, at least a minute. The agent's own hang watch acts on hangs."""

SUSPENDED: TimeState = "suspended"


def account(gang: AttemptView) -> Goodput:
    """The account including the time since the previous one, which is attributed to the state in the status written then."""
    status, now = gang.job.status, float(int(gang.observed.now))
    before = status.goodput or Goodput()
    start = seconds_of(before.accounted_until)
    if start is None:
        start = min(now, gang.job.created if gang.job.created is not None else now)
    elapsed = max(0.0, now - start)  # if the clock was set back, no time is accounted
    spent = _causes(gang, elapsed)
    gpus = _gpus_held(gang)
    by_cause = _sum(before.by_cause, {cause: time for cause, time in spent.items() if cause != SUSPENDED}, 1)
    hours = (
        _sum(before.gpu_hours_by_cause, {cause: time * gpus / 3600 for cause, time in spent.items()}, 4)
        if gpus
        else before.gpu_hours_by_cause
    )
    ratio = goodput_of(by_cause)
    return Goodput(
        ratio=None if ratio is None else round(ratio, 3),
        total_seconds=round(total_of(by_cause), 1),
        suspended_seconds=round(before.suspended_seconds + spent.get(SUSPENDED, 0.0), 1),
        active_seconds=round(_active(status, before, spent), 1),
        by_cause=by_cause,
        gpu_hours=round(sum(hours.values()), 4) if hours else before.gpu_hours,
        gpu_hours_by_cause=hours,
        high_water_step=max(before.high_water_step or 0, _step_now(gang) or 0) or None,
        accounted_until=text_of(max(now, start)),
    )


def active_seconds(status: Status, now: float) -> float:
    """Seconds that count against activeDeadlineSeconds: time since the job was last resumed, without time in a queue or behind another job.

    As in a Kubernetes Job, waiting for nodes and restarts count, and suspending the job resets the count.
    """
    goodput = status.goodput
    if goodput is None or status.phase == "Suspended":
        return 0.0
    since = seconds_of(goodput.accounted_until)
    idle = status.phase in (None, *_IDLE, *FINAL)
    return _counted(goodput) + (max(0.0, now - since) if since is not None and not idle else 0.0)


_IDLE = ("Pending", "Queued")


def _active(status: Status, before: Goodput, spent: Mapping[TimeState, float]) -> float:
    if status.phase == "Suspended":
        return 0.0
    return _counted(before) + sum(time for cause, time in spent.items() if cause != "queued")


def _counted(goodput: Goodput) -> float:
    """An account of an earlier version says the total alone."""
    if goodput.active_seconds is not None:
        return goodput.active_seconds
    return max(0.0, goodput.total_seconds - goodput.by_cause.get("queued", 0.0))


def _causes(gang: AttemptView, elapsed: float) -> dict[TimeState, float]:
    """`elapsed` seconds by cause."""
    status = gang.job.status
    match status.phase:
        case "Complete" | "Failed":
            return {}
        case "Suspended":
            return {SUSPENDED: elapsed}
        case "Restarting":
            return {"restart": elapsed}
        case "Starting":
            return {"starting" if (status.attempt or 1) <= 1 else "restart": elapsed}
        case "Running":
            return _of_training(gang, elapsed)
        case "Suspending":
            return {"checkpoint": elapsed}
        case _:
            return {"queued": elapsed}


def _of_training(gang: AttemptView, elapsed: float) -> dict[TimeState, float]:
    """Seconds by cause while training. Steps up to the furthest one are recompute; time blocked by checkpoints is a cause of its own."""
    row = gang.progress
    told = gang.job.status.progress
    before = told.step if told and told.step is not None else 0
    if row is None:
        return {"starting" if gang.number <= 1 else "restart": elapsed} if gang.leader and told is None else {"productive": elapsed}
    silent = gang.observed.now - row.time
    doing = gang.leader.status.phase if gang.leader and gang.heard(0) else None  # no step was told, and no word: it may train on
    if silent > max(HUNG_FLOOR, HUNG_STEPS * row.step_seconds) and doing == "training":
        hung = min(elapsed, silent)
        return {"hung": hung, "productive": elapsed - hung}
    if doing == "restarting":  # in place; nobody looked when it began
        waited = min(elapsed, max(0.0, silent))
        return {"restart": waited, "productive": elapsed - waited}
    goodput, leader = gang.job.status.goodput, gang.leader
    first = before if row.step >= before else (leader.status.resumed_from_step or 0) if leader else 0
    furthest = (goodput.high_water_step or 0) if goodput else 0
    blocked = row.blocked_seconds if row.step != before else 0.0  # a row that was read before is accounted already
    return while_training(elapsed, first=first, last=row.step, furthest=furthest, blocked=blocked)


def _step_now(gang: AttemptView) -> int | None:
    return gang.progress.step if gang.progress else None


def _gpus_held(gang: AttemptView) -> int:
    """GPUs of the pods that have a node and have not ended, including pods in which another container still runs."""
    each = gang.job.spec.resources.gpus_per_node if gang.job.spec else 0
    return each * sum(pod.node is not None and not pod.ended and (gang.may_run(pod) or pod.exit_code is not None) for pod in gang.mine)


def _sum(before: Mapping[str, float], more: Mapping[str, float], places: int) -> dict[str, float]:
    causes = sorted({*before, *(cause for cause, value in more.items() if value > 0)})
    return {cause: round(before.get(cause, 0.0) + more.get(cause, 0.0), places) for cause in causes}
