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

    rows: int = 0
    """Its rows, where the datasets are concatenated."""


class CourseStage(Strict):
    """Other weights from a sample on."""

    at: int
    """Samples consumed in all before it begins."""

    weights: tuple[float, ...]
    """One for each dataset; 0 draws nothing from it."""


class Course(Strict):
    """The order of samples from `start` on."""

    seed: int
    parts: tuple[CourseDataset, ...]
    start: int = 0
    """Samples consumed in all before it began."""

    concat: bool = False
    """Whether all datasets are shuffled as one, instead of drawn from by weight."""

    stages: tuple[CourseStage, ...] = ()
    """Weights that replace those of the parts, in their order. One that begins at or before `start` replaces them from the start on."""

    def passed(self, consumed: int) -> int:
        """Samples of these datasets that were consumed when `consumed` were in all: fewer, where earlier ones were of other datasets."""
        return sum(part.before for part in self.parts) + consumed - self.start

    def weights(self, consumed: int) -> tuple[float, ...]:
        """The weights by which the sample is drawn that comes when `consumed` were consumed."""
        begun = self.begun(consumed)
        return begun[-1].weights if begun else tuple(part.weight for part in self.parts)

    def to_come(self, consumed: int) -> tuple[CourseStage, ...]:
        """The stages that have not begun when `consumed` samples were consumed."""
        return tuple(stage for stage in self.stages if stage.at > consumed)

    def later_by(self, samples: int) -> Course:
        """With stages that begin so many samples later."""
        return self.model_copy(update={"stages": tuple(stage.model_copy(update={"at": stage.at + samples}) for stage in self.stages)})

    def begun(self, consumed: int) -> tuple[CourseStage, ...]:
        """The stages that have begun when `consumed` samples were consumed."""
        return tuple(stage for stage in self.stages if stage.at <= consumed)

    def draws_as(self, other: Course, consumed: int) -> bool:
        """Whether both draw alike at this place; what later stages draw may differ."""
        if (self.seed, self.concat, _digests(self.parts)) != (other.seed, other.concat, _digests(other.parts)):
            return False
        return self.weights(consumed) == other.weights(consumed)


def _digests(parts: Sequence[CourseDataset]) -> list[str]:
    return [part.digest for part in parts]
