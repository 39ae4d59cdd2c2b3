"""The notice about the data of a run that resumes from a checkpoint: which samples come next, and why. Pure.

One sentence covers all fields: separate sentences for each changed field would contradict each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llmtrain_trainer.data.mixing.course import Course

_BATCH = "training.globalBatchSize"


def data_changes(changed: Sequence[tuple[str, str]], before: Course | None, course: Course, fresh: Course) -> Iterator[str]:
    """One sentence for each consequence.

    changed: changed fields that affect the order of samples (rules of kind data), each with a clause that names both values.
    before: the course in the checkpoint; None if it records none. course: the course of this run. fresh: the course of a run that starts
    from step 0 with this data.
    """
    clauses = dict(changed)
    batch = clauses.pop(_BATCH, None)
    if (before is not None and _alike(course, before)) or (before is None and not clauses):
        if batch is not None:
            yield f"{batch}: the checkpoint counts samples, so no sequence is skipped or repeated"
        return
    cause = [*clauses.values()] or ["spec.dataset has other rows or weights than before"]
    yield f"{_joined([*cause, *([batch] if batch else [])])}: {_what_comes_next(before, fresh)}"


def _what_comes_next(before: Course | None, fresh: Course) -> str:
    if before is None or before.seed != fresh.seed:
        return "the data is drawn in another order from the first sample on, so sequences of this pass may be repeated"
    known = {part.digest for part in before.parts}
    on = sum(part.digest in known for part in fresh.parts)
    if not on:
        return "the rows differ from before and start from the first one, so text of this pass may be repeated"
    here = {part.digest for part in fresh.parts}
    gone = sum(part.digest not in here for part in before.parts)
    removed = f", and {gone} earlier one{'' if gone == 1 else 's'} {'is' if gone == 1 else 'are'} no longer used" if gone else ""
    return (
        f"{on} of {len(fresh.parts)} datasets continue where they stopped, {len(fresh.parts) - on} start with their first sample{removed}"
    )


def _alike(course: Course, before: Course) -> bool:
    """Whether they differ in stages at most, whose change is told as that of the curriculum."""
    return course.model_copy(update={"stages": ()}) == before.model_copy(update={"stages": ()})


def _joined(clauses: Sequence[str]) -> str:
    return " and ".join(clauses)
