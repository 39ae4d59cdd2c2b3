"""What a run that goes on from a checkpoint is told of its data: which samples come next, and why. Pure; called by continuation.py.

One sentence says all of it. Each field alone would say what holds where it alone changed, and contradict the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llmtrain_trainer.data.course import Course

_BATCH = "training.globalBatchSize"


def data_changes(changed: Sequence[tuple[str, str]], before: Course | None, course: Course, fresh: Course) -> Iterator[str]:
    """`changed`: fields that decide it (rules of kind data), each with a clause of its values.

    before: the course of the checkpoint, None where it records none. course: what the run goes on with. fresh: that of a run which
    begins with this data.
    """
    clauses = dict(changed)
    batch = clauses.pop(_BATCH, None)
    if course == before or (before is None and not clauses):
        if batch is not None:
            yield f"{batch}: the checkpoint counts samples, so no sequence is left out and none comes twice"
        return
    cause = [*clauses.values()] or ["spec.dataset gives other rows or weights than before"]
    yield f"{_joined([*cause, *([batch] if batch else [])])}: {_what_comes_next(before, fresh)}"


def _what_comes_next(before: Course | None, fresh: Course) -> str:
    if before is None or before.seed != fresh.seed:
        return "the data is drawn in another order that begins with the first sample, so sequences of this pass may come twice"
    known = {part.digest for part in before.parts}
    on = sum(part.digest in known for part in fresh.parts)
    if not on:
        return "the rows are others than before and begin with the first, so text of this pass may come twice"
    here = {part.digest for part in fresh.parts}
    gone = sum(part.digest not in here for part in before.parts)
    removed = f", and {gone} that it was trained on until now {'is' if gone == 1 else 'are'} left out from here on" if gone else ""
    return f"{on} of {len(fresh.parts)} datasets go on where they were, {len(fresh.parts) - on} begin with their first sample{removed}"


def _joined(clauses: Sequence[str]) -> str:
    return " and ".join(clauses)
