"""The course of a run that resumes with other datasets, weights or batch size."""

from __future__ import annotations

from llmtrain_trainer.data.mixing.course import Course, CourseDataset
from llmtrain_trainer.data.mixing.course_index import CourseIndex


def followed_by(before: Course, now: Course, consumed: int) -> Course:
    """The course of a run that resumes after `consumed` samples of `before`, with datasets, weights and seed of `now`, a fresh course."""
    if before.draws_as(now, consumed):
        stages = (*before.begun(consumed), *now.to_come(consumed))
        return before if stages == before.stages else before.model_copy(update={"stages": stages})
    if before.seed != now.seed:
        return now.model_copy(update={"start": consumed})
    return now.model_copy(update={"parts": _continued(before, now, consumed), "start": consumed})


def _continued(before: Course, now: Course, consumed: int) -> tuple[CourseDataset, ...]:
    """Datasets that remain continue where they stopped, new ones have an order of their own."""
    known = list(zip(before.parts, CourseIndex(before).counts(consumed), strict=True))
    unused = max((part.key for part in before.parts), default=-1) + 1
    parts = []
    for part in now.parts:
        same = next((each for each in known if each[0].digest == part.digest), None)
        if same is not None:
            known.remove(same)
            parts.append(part.model_copy(update={"key": same[0].key, "before": same[1]}))
        else:
            parts.append(part.model_copy(update={"key": unused}))
            unused += 1
    return tuple(parts)
