"""Answers of the validating webhook: `kubectl apply` refuses a manifest that cannot work, with the messages of the plan. Pure.

Reconcile makes the same check (`feasible`), so a job that was admitted while the webhook was off has the same messages in its condition
Planned. If the model's shape cannot be known here, the job is admitted with a warning, and reconcile checks it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.manifest.parse import ManifestError, parse_object
from llmtrain_operator.manifest.problem import NotKnownError, PlanError, Problem
from llmtrain_operator.plan.feasible import feasible
from llmtrain_operator.plan.model.shape import ModelShape
from llmtrain_operator.plan.plan import Plan, plan
from llmtrain_trainer.config import Model
from llmtrain_trainer.config.formats import size

Object = dict[str, Any]

ShapeNow = Callable[[Model], ModelShape | None]
"""The shape without waiting; as `Shapes.now`."""

LONGEST_WARNING = 256
"""Characters; the API server cuts what is longer once there are many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewAnswer:
    """The answer to a review: `problems` refuse the manifest; `warnings` are only shown."""

    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()


def is_exempt(request: Object) -> bool:
    """Whether there is nothing to check: the spec is unchanged (labels, finalizers), or the job is being deleted."""
    if request.get("operation") == "CREATE":
        return False
    new, old = request.get("object") or {}, request.get("oldObject") or {}
    deleting = bool((new.get("metadata") or {}).get("deletionTimestamp"))
    return request.get("operation") != "UPDATE" or deleting or new.get("spec") == old.get("spec")


def verdict_on(request: Object, shape_now: ShapeNow) -> ReviewAnswer:
    """The review of a request for admission. An update is refused only for problems that it adds: an invalid job can still be suspended.

    An update that only suspends or resumes gets no advice again.
    """
    if is_exempt(request):
        return ReviewAnswer()
    found = judge(request.get("object"), shape_now)
    if found.problems and request.get("operation") == "UPDATE":
        before = judge(request.get("oldObject"), shape_now).problems
        kept = tuple(str(problem) for problem in found.problems if problem in before)
        return ReviewAnswer(problems=tuple(problem for problem in found.problems if problem not in before), warnings=found.warnings + kept)
    return ReviewAnswer() if _suspends(request) else found


def _suspends(request: Object) -> bool:
    """Whether the update only suspends or resumes the job."""
    if request.get("operation") != "UPDATE":
        return False
    new, old = ((request.get(which) or {}).get("spec") for which in ("object", "oldObject"))
    return isinstance(new, dict) and isinstance(old, dict) and {**new, "suspend": None} == {**old, "suspend": None}


def judge(manifest: Any, shape_now: ShapeNow) -> ReviewAnswer:
    """The review of a manifest, as reconcile will read it."""
    try:
        job = parse_object(manifest)
        try:
            made: Plan | None = feasible(job, shape_now(job.spec.model))
        except NotKnownError as unknown:
            made = _without_shape(job)
            return ReviewAnswer(
                warnings=(f"{unknown} The layout is checked when it has been read; see the condition Planned.", *_advice(made))
            )
    except (ManifestError, PlanError) as error:
        return ReviewAnswer(problems=error.problems)
    return ReviewAnswer(warnings=_advice(made))


def response(review: Object, verdict: ReviewAnswer) -> Object:
    """The AdmissionReview that answers `review`."""
    answer: Object = {"uid": (review.get("request") or {}).get("uid", ""), "allowed": not verdict.problems}
    if verdict.problems:
        message = "\n".join(str(problem) for problem in verdict.problems)
        answer["status"] = {"code": 422, "reason": "Invalid", "message": message}
    if verdict.warnings:
        answer["warnings"] = [_cut(warning) for warning in verdict.warnings]
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}


def _without_shape(job: LLMTrainJob) -> Plan | None:
    """The checks that are possible before the model is known; none with auto, which depends on the model. Raises PlanError."""
    return None if job.spec.parallelism.auto else plan(job, None)


def _advice(made: Plan | None) -> tuple[str, ...]:
    if made is None:
        return ()
    memory = made.memory
    if memory is None or memory.fits or not memory.budget:
        return made.advice
    needs = f"A rank needs up to {size(memory.peak)} and may use {size(memory.budget)}."
    return (f"{needs} `llmtrain plan` shows layouts that would fit.", *made.advice)


def _cut(warning: str) -> str:
    return warning if len(warning) <= LONGEST_WARNING else warning[: LONGEST_WARNING - 3] + "..."
