"""The order in which a run consumes its samples, and its position: what a checkpoint records of the data for a resume.

The order is a function of the seed, the datasets and their weights. If these change between two attempts, a new course begins: datasets
that remain continue where they stopped, new ones start with their first sample.
"""

from __future__ import annotations

from collections.abc import Sequence

from llmtrain_trainer.config.strict import Strict


class CourseDataset(Strict):
    """A dataset of the mixture."""

    digest: str
    """Of its rows, their length included."""

    weight: float
    key: int
    """Number of its permutations: no other dataset of the mixture has the same one."""

    before: int = 0
    """Samples of it that were consumed before the course began."""


class Course(Strict):
    """The order of samples from `start` on."""

    seed: int
    parts: tuple[CourseDataset, ...]
    start: int = 0
    """Samples consumed in all before it began."""

    def counts(self, consumed: int) -> list[int]:
        """Samples of each dataset that were consumed when `consumed` were in all."""
        from llmtrain_trainer.data.order import Mixture  # numpy, which who reads manifests does without

        counts = Mixture([part.weight for part in self.parts]).counts(consumed - self.start)
        return [part.before + count for part, count in zip(self.parts, counts, strict=True)]

    def passed(self, consumed: int) -> int:
        """Samples of these datasets that were consumed when `consumed` were in all: fewer, where earlier ones were of other datasets."""
        return sum(part.before for part in self.parts) + consumed - self.start

    def followed_by(self, now: Course, consumed: int) -> Course:
        """The course of a run that resumes after `consumed` samples with the datasets, weights and seed of `now`, a fresh course."""
        if self._same_as(now):
            return self
        if self.seed != now.seed:
            return now.model_copy(update={"start": consumed})
        known = list(zip(self.parts, self.counts(consumed), strict=True))
        unused = max((part.key for part in self.parts), default=-1) + 1
        parts = []
        for part in now.parts:
            same = next((each for each in known if each[0].digest == part.digest), None)
            if same is not None:
                known.remove(same)
                parts.append(part.model_copy(update={"key": same[0].key, "before": same[1]}))
            else:
                parts.append(part.model_copy(update={"key": unused}))
                unused += 1
        return Course(seed=now.seed, parts=tuple(parts), start=consumed)

    def _same_as(self, other: Course) -> bool:
        return (self.seed, _kinds(self.parts)) == (other.seed, _kinds(other.parts))


def _kinds(parts: Sequence[CourseDataset]) -> list[tuple[str, float]]:
    return [(part.digest, part.weight) for part in parts]
