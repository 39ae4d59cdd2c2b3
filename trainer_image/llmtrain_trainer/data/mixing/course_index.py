"""A course as ranks ask it: which sample of which dataset comes at a position."""

from __future__ import annotations

from itertools import pairwise
from typing import Protocol

import numpy as np

from llmtrain_trainer.data.mixing.concatenation import Concatenation
from llmtrain_trainer.data.mixing.course import Course
from llmtrain_trainer.data.mixing.order import Ints, Mixture


class Drawing(Protocol):
    """How samples are drawn from several datasets, from its own position 0 on."""

    def at(self, consumed: Ints) -> tuple[Ints, Ints]:
        """(dataset, which of its samples) of each 0-based position: [n] -> [n], [n]."""
        ...

    def counts(self, consumed: int) -> list[int]:
        """How many of the first `consumed` samples come from each dataset."""
        ...


class CourseIndex:
    """The course in stages, each with the samples of every dataset that came before it."""

    def __init__(self, course: Course) -> None:
        begins = [course.start, *(stage.at for stage in course.to_come(course.start))]
        self._begins = np.array(begins, dtype=np.int64)
        self._drawings = [_drawing(course, begin) for begin in begins]
        before = np.array([part.before for part in course.parts], dtype=np.int64)
        self._before = [before]
        for drawing, (begin, end) in zip(self._drawings, pairwise(begins), strict=False):
            before = before + np.array(drawing.counts(end - begin), dtype=np.int64)
            self._before.append(before)

    def at(self, consumed: Ints) -> tuple[Ints, Ints]:
        """(dataset, how many samples of that dataset were consumed before) of each 0-based position in the stream: [n] -> [n], [n]."""
        stages = np.searchsorted(self._begins, consumed, side="right") - 1
        datasets, ordinals = np.empty_like(consumed), np.empty_like(consumed)
        for i in np.unique(stages).tolist():
            of_stage = stages == i
            datasets[of_stage], of_datasets = self._drawings[i].at(consumed[of_stage] - self._begins[i])
            ordinals[of_stage] = of_datasets + self._before[i][datasets[of_stage]]
        return datasets, ordinals

    def counts(self, consumed: int) -> list[int]:
        """Samples of each dataset that were consumed when `consumed` were in all, those before the course included."""
        i = max(0, int(np.searchsorted(self._begins, consumed, side="right")) - 1)
        drawn = self._drawings[i].counts(consumed - int(self._begins[i]))
        return [int(before) + count for before, count in zip(self._before[i], drawn, strict=True)]


def _drawing(course: Course, consumed: int) -> Drawing:
    if course.concat:
        return Concatenation([part.rows for part in course.parts], course.seed)
    return Mixture(course.weights(consumed))
