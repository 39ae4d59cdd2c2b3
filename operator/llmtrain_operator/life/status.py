"""Decision + Observed -> .status, and whether it must be written now."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llmtrain_operator.api.job import Condition, Phase, Restarts, Status
from llmtrain_operator.api.job import status as record
from llmtrain_operator.api.phases import FINAL
from llmtrain_operator.life import ledger
from llmtrain_operator.life.attempt import AttemptView
from llmtrain_operator.life.decision import Decision
from llmtrain_operator.life.observed import Observed
from llmtrain_operator.life.policies import restart_budget
from llmtrain_operator.life.times import seconds_of, text_of
from llmtrain_operator.life.why import ORDINARY
from llmtrain_operator.plan.layout.layout import degrees
from llmtrain_operator.plan.plan import Plan
from llmtrain_trainer.config.formats import span

WRITE_EVERY = 15.0
"""Seconds between two writes that change only numbers."""

MOST_AVOIDED = 64
MOST_REASONS = 64
LONGEST_WORD, LONGEST_TEXT = 1024, 32_768
"""Most characters that the schema of the status allows; agents may send more."""

_NUMBERS = ("progress", "goodput", "checkpoint", "message")
"""Fields that change all the time; a change in these alone can wait. Messages count pods, of which there may be hundreds."""


def project(observed: Observed, decision: Decision) -> Status:
    """The whole new status. Without a plan, if the job is refused or was not planned again, the old summary of it is kept."""
    decision = replace(decision, reason=_cut(decision.reason, LONGEST_WORD), message=_cut(decision.message, LONGEST_TEXT))
    gang, old = AttemptView(observed), observed.job.status
    final = decision.phase in FINAL
    attempt = decision.attempt or gang.number or None
    return Status(
        observed_generation=observed.job.generation,
        phase=decision.phase,
        message=decision.message,
        conditions=_conditions(observed, decision),
        attempt=attempt,
        ended_attempt=max(decision.ends or 0, old.ended_attempt or 0) or None,
        pods=_pods(gang, attempt),
        start_time=old.start_time or (text_of(observed.now) if attempt else None),
        completion_time=old.completion_time or (text_of(observed.now) if final else None),
        plan=plan_summary(observed.plan) if observed.plan else old.plan,
        progress=_at_rest(_progress(gang)) if decision.phase in _AT_REST else _progress(gang),
        checkpoint=_checkpoint(gang),
        restarts=_restarts(gang, decision, attempt),
        failure=_failure(gang, decision),
        goodput=ledger.account(gang) if old.completion_time is None else old.goodput,
        avoided_nodes=_avoided(gang, decision),
        notices=_notices(gang),
        artifacts=old.artifacts or _artifacts(gang, decision),
    )


def _cut(text: str, most: int) -> str:
    """As UTF-8 can say it, which knows no half of a pair, and no longer than `most`."""
    text = text.encode(errors="replace").decode()
    return text if len(text) <= most else f"{text[: most - 1]}…"


def as_dict(status: Status) -> dict[str, Any]:
    """The status in the form for the API server."""
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


def worth_writing(old: Status, new: Status, since_last_write: float, every: float = WRITE_EVERY) -> bool:
    """Whether to write now: transitions at once; changes of numbers and messages at most every `every` seconds."""
    if old == new:
        return False
    return since_last_write >= every or _without_numbers(old) != _without_numbers(new)


def _without_numbers(status: Status) -> Status:
    step = status.progress is not None and status.progress.step is not None  # the first step is news
    pods = status.pods and record.PodCounts(wanted=status.pods.wanted, created=status.pods.created)  # decide.py rests on these
    ended = status.pods is not None and status.pods.succeeded + status.pods.failed > 0
    checkpoint = status.checkpoint if ended else None  # the last one: a pod that was told to end says it, and is gone within a second
    conditions = tuple(
        condition.model_copy(update={"message": "", "reason": "" if condition.reason in ORDINARY else condition.reason})
        for condition in status.conditions
    )
    rest: Mapping[str, None] = dict.fromkeys(_NUMBERS)
    return status.model_copy(
        update={
            **rest,
            "progress": record.TrainingProgress() if step else None,
            "checkpoint": checkpoint,
            "pods": pods,
            "conditions": conditions,
        }
    )


# ---- conditions ------------------------------------------------------------------------------------------------------------


def _conditions(observed: Observed, decision: Decision) -> tuple[Condition, ...]:
    """The conditions. Each is True or False from the start; Stalled, which generic tools read as failed, exists only while True."""
    old = {condition.type: condition for condition in observed.job.status.conditions}
    refused = observed.job.refusal
    said = [("Planned", refused is None, "Refused" if refused else "Planned", refused or "The plan fits the manifest.")]
    for kind, phases in _HOLDS.items():
        holds = decision.phase in phases
        tells = holds or kind == "Running"  # which says of every other state why it is not running
        said.append((kind, holds, decision.reason if tells else _otherwise(kind, old, decision), decision.message if tells else ""))
    if refused is not None or decision.phase == "Failed":
        said.append(("Stalled", True, decision.reason, decision.message))
    return tuple(_condition(observed, old.get(kind), kind, holds, reason, message) for kind, holds, reason, message in said)


_HOLDS: dict[str, tuple[Phase, ...]] = {
    "Queued": ("Queued",),
    "Running": ("Running",),
    "Restarting": ("Restarting",),
    "Suspended": ("Suspended",),
    "Complete": ("Complete",),
    "Failed": ("Failed",),
}


def _otherwise(kind: str, old: Mapping[str, Condition], decision: Decision) -> str:
    """The reason of a False condition: why it became False, kept from then on."""
    before = old.get(kind)
    return before.reason if before is not None and before.status == "False" and before.reason else decision.phase


def _condition(observed: Observed, before: Condition | None, kind: str, holds: bool, reason: str, message: str) -> Condition:
    status = "True" if holds else "False"
    same = before is not None and before.status == status
    return Condition(
        type=kind,
        status="True" if holds else "False",
        reason=reason,
        message=message,
        last_transition_time=before.last_transition_time if before is not None and same else text_of(observed.now),
        observed_generation=observed.job.generation,
    )


# ---- numbers ---------------------------------------------------------------------------------------------------------------


def plan_summary(plan: Plan) -> record.PlanSummary:
    """The plan as .status.plan shows it, with long sentences cut."""
    mesh = plan.mesh
    model = plan.job.spec.model
    return record.PlanSummary(
        engine=plan.engine,
        engine_reason=_cut(plan.engine_reason, LONGEST_WORD) if plan.engine_reason else None,
        layout=" ".join(f"{axis}{size}" for axis, size in degrees(mesh)) or "one device",
        nodes=mesh.nodes,
        gpus=mesh.world_size if plan.gpu else 0,
        accumulation=plan.batch.accumulation,
        parameters=plan.shape.parameters if plan.shape else None,
        memory_bytes_per_rank=plan.memory.peak if plan.memory else None,
        tokens_per_second=float(round(plan.throughput.tokens_per_second))
        if plan.throughput and plan.throughput.tokens_per_second
        else None,
        advice=tuple(_cut(sentence, LONGEST_WORD) for sentence in plan.advice[:64]),
        model=_cut(model.source or (plan.shape.model_type if plan.shape else None) or "config", LONGEST_WORD),
    )


def _pods(gang: AttemptView, attempt: int | None) -> record.PodCounts | None:
    if attempt is None:
        return None
    old = gang.job.status.pods if gang.job.status.attempt == attempt else None
    pods = list(gang.pods.values()) if attempt == gang.number else []
    ended_well = sum(pod.phase == "Succeeded" or pod.exit_code == 0 for pod in pods)
    return record.PodCounts(
        wanted=gang.size or (old.wanted if old else 0),
        created=max(len(pods), old.created if old else 0),
        scheduled=sum(pod.node is not None for pod in pods),
        running=sum(pod.running for pod in pods),
        succeeded=ended_well,
        failed=sum(pod.stopped for pod in pods) - ended_well,
    )


def _progress(gang: AttemptView) -> record.TrainingProgress | None:
    old = gang.job.status.progress
    row = gang.progress
    if row is None:
        done = gang.verdict.step if gang.verdict and gang.complete else None
        if old is None or done is None:
            return old
        return old.model_copy(update={"step": done, "percent": _percent(done, old.target_steps), "eta": None})
    left = max(0, row.target_steps - row.step) * row.step_seconds
    validation = _number(row.validation_loss, 4)
    return record.TrainingProgress(
        step=max(0, row.step),
        target_steps=max(0, row.target_steps),
        percent=_percent(row.step, row.target_steps),
        consumed_tokens=max(0, row.consumed_tokens),
        loss=_number(row.loss, 4),
        validation_loss=validation if validation is not None else old.validation_loss if old else None,
        metrics=_measures(row.metrics),
        validation_metrics=_measures(row.validation_metrics) or (old.validation_metrics if old else None),
        tokens_per_second=_number(row.tokens_per_second, 1),
        tokens_per_second_per_gpu=_number(row.tokens_per_second / gang.ranks, 1),
        mfu=_number(row.mfu, 3),
        eta=span(left) if math.isfinite(left) and left > 0 and not gang.complete else None,
        last_step_time=text_of(row.time) if math.isfinite(row.time) else None,
    )


def _measures(found: Mapping[str, float | None]) -> dict[str, float] | None:
    """As many, and with names as long, as the status takes."""
    kept = {name: rounded for name, value in found.items() if len(name) <= 64 and (rounded := _number(value, 4)) is not None}
    return dict(list(kept.items())[:32]) or None


_AT_REST: tuple[Phase, ...] = ("Suspended", "Queued", "Failed")
"""Phases in which nothing trains until an external change."""


def _at_rest(progress: record.TrainingProgress | None) -> record.TrainingProgress | None:
    """How far training got, without the speed that it no longer has."""
    if progress is None:
        return None
    return progress.model_copy(update={"eta": None, "tokens_per_second": None, "tokens_per_second_per_gpu": None, "mfu": None})


def _percent(step: int, target: int | None) -> int | None:
    """Rounded down, so that 100 means done."""
    return min(100, max(0, step * 100 // target)) if target and target > 0 else None


def _number(value: float | None, places: int) -> float | None:
    """The rounded number; None for NaN and infinity, which JSON does not have."""
    return round(value, places) if value is not None and math.isfinite(value) else None


def _checkpoint(gang: AttemptView) -> record.CheckpointSummary | None:
    """The newest checkpoint; the known one is kept until the new attempt commits a newer one."""
    old = gang.job.status.checkpoint
    new = gang.checkpoint
    if new is None or (old is not None and (seconds_of(old.time) or 0.0) > new.committed_at):
        return old
    return record.CheckpointSummary(
        name=_cut(new.name, LONGEST_WORD),
        step=max(0, new.step),
        uri=_cut(new.uri, 2 * LONGEST_WORD),
        bytes=max(0, new.bytes),
        time=text_of(new.committed_at),
    )


MOST_NOTICES = 64


def _notices(gang: AttemptView) -> tuple[str, ...]:
    """Notices of the agents so far; those of an earlier attempt are dropped when the newest has one."""
    said = dict.fromkeys(_cut(sentence, LONGEST_WORD) for told in gang.notices for sentence in told)
    old = gang.job.status
    kept = old.notices if old.attempt == gang.number or not said else ()
    return tuple(dict.fromkeys((*kept, *said)))[-MOST_NOTICES:]


def _artifacts(gang: AttemptView, decision: Decision) -> tuple[record.Artifact, ...]:
    """The artifacts of a complete job, which node 0 uploads before it ends."""
    spec = gang.job.spec
    if spec is None or decision.phase != "Complete":
        return ()
    where = spec.output.destination or (spec.checkpoint.destination if spec.checkpoint else None)
    if where is None:
        return ()
    made = [record.Artifact(kind=kind, uri=f"{where.rstrip('/')}/export/{kind}") for kind in spec.output.export]
    report = [record.Artifact(kind="report", uri=f"{where.rstrip('/')}/report/report.html")] if spec.output.report else []
    return (*made, *report)


# ---- restarts and failures -------------------------------------------------------------------------------------------------


def _restarts(gang: AttemptView, decision: Decision, attempt: int | None) -> record.RestartCounts:
    old = gang.job.status.restarts or record.RestartCounts()
    window = gang.job.spec.resilience.restarts if gang.job.spec else Restarts()
    now, in_place = gang.observed.now, restart_budget.new_in_place(gang)
    gangs = 1 if decision.restart else 0
    charged = gangs if decision.failure is not None and decision.failure.charged else 0
    taken = gangs - charged + (decision.phase == "Suspending" and decision.ends is not None)
    recent = restart_budget.charge(old, charged + in_place, now, window)
    same = gang.job.status.attempt == attempt or attempt == gang.number
    counted = old.attempt_in_place if gang.job.status.attempt == gang.number else 0
    return record.RestartCounts(
        total=old.total + gangs + in_place,
        in_place=old.in_place + in_place,
        in_window=sum(entry.count for entry in recent),
        preemptions=old.preemptions + taken,
        streak=_streak(gang, old.streak) + charged,
        interruptions=restart_budget.interruptions(gang, decision.failure if decision.restart else None, old.interruptions),
        attempt_in_place=counted + in_place if same else 0,
        by_reason=_by_reason(old.by_reason, {_cut(decision.failure.reason, LONGEST_WORD): gangs} if decision.failure else {}, in_place),
        recent=recent,
    )


def _by_reason(old: Mapping[str, int], gangs: Mapping[str, int], in_place: int) -> dict[str, int]:
    """The counts with those of now; of more reasons than the status takes the newest is left out."""
    new = {reason: count for reason, count in {**gangs, "InPlace": in_place}.items() if count}
    counts = {**old, **{reason: old.get(reason, 0) + count for reason, count in new.items()}}
    return dict(list(counts.items())[:MOST_REASONS])


def _streak(gang: AttemptView, before: int) -> int:
    """The failure streak; 0 once training passes its furthest step."""
    goodput, row = gang.job.status.goodput, gang.progress
    furthest = goodput.high_water_step if goodput and goodput.high_water_step is not None else 0
    return 0 if row is not None and row.step > furthest else before


def _failure(gang: AttemptView, decision: Decision) -> record.LastFailure | None:
    failure = decision.failure
    if failure is None:
        return gang.job.status.failure
    step = failure.step if failure.step is not None else gang.step()
    return record.LastFailure(
        reason=_cut(failure.reason, LONGEST_WORD),
        message=_cut(failure.message, LONGEST_TEXT),
        attempt=gang.number,
        first_failing_rank=failure.rank if failure.rank is not None and failure.rank >= 0 else None,
        node=_cut(failure.node, LONGEST_WORD) if failure.node else None,
        exit_code=failure.exit_code,
        step=max(0, step) if step is not None else None,
        time=text_of(gang.observed.now),
    )


_FOLLOW_THE_JOB = ("Evicted", "StoppedFromOutside", "ImagePullFailed")
"""Failures that a node may have caused as well as the job or the cluster."""


def _avoided(gang: AttemptView, decision: Decision) -> tuple[str, ...]:
    """The avoided nodes, newest last; the oldest are dropped."""
    old, failure = gang.job.status.avoided_nodes, decision.failure
    avoids = gang.job.spec is None or gang.job.spec.resilience.avoid_nodes
    if failure is None or not failure.suspect or failure.node is None or not avoids:
        return old
    before = gang.job.status.failure
    if failure.reason in _FOLLOW_THE_JOB and before is not None and before.reason == failure.reason and before.node != failure.node:
        return tuple(
            node for node in old if node != before.node
        )  # a failure that follows the job from node to node is not the nodes' fault
    return (*(node for node in old if node != failure.node), _cut(failure.node, LONGEST_WORD))[-MOST_AVOIDED:]
