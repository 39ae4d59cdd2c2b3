"""Micro-batches for the ranks, straight from memory-mapped rows.

Sample j of a step belongs to micro-batch j // (micro * dp), replica (j // micro) % dp. The loss is divided by the target tokens of the
whole global batch, so this assignment does not change the result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from llmtrain_trainer.config.tables.tasks import is_packed
from llmtrain_trainer.config.trainer import TrainerConfig
from llmtrain_trainer.data.chunks import FAILED, Chunks
from llmtrain_trainer.data.columns import Columns, Ints, empty
from llmtrain_trainer.data.mixing.course import Course
from llmtrain_trainer.data.mixing.course_index import CourseIndex
from llmtrain_trainer.data.mixing.order import permute, shuffled
from llmtrain_trainer.data.prepared import Prepared
from llmtrain_trainer.data.rows import Rows, open_rows
from llmtrain_trainer.data.step_batch import StepBatch


class OrderedDataset(Protocol):
    """One training dataset in the order in which it is consumed."""

    def rows_of(self, ordinals: Ints) -> Ints:
        """The row that is consumed at each place in the order of this dataset, [n] -> [n]."""
        ...

    def take(self, rows: Ints) -> Columns:
        """Every column of these rows, each [len(rows), length]."""
        ...

    def targets(self, rows: Ints) -> Ints:
        """How many labels of each row are not NO_TARGET: [len(rows)]."""
        ...


class Shuffled:
    """Prepared rows, each epoch in an order of its own."""

    def __init__(self, rows: Rows, seed: int, key: int) -> None:
        self._rows, self._seed, self._key = rows, seed, key
        self.take, self.targets = rows.take, rows.targets

    def rows_of(self, ordinals: Ints) -> Ints:
        return shuffled(ordinals, len(self._rows), self._seed, self._key)


def open_samples(prepared: Path, config: TrainerConfig, replica: int, course: Course | None = None) -> Samples:
    """What data-parallel replica `replica` of config.mesh.dp trains and evaluates on. `course`: of a run that resumes with other data."""
    facts = Prepared.load(prepared)
    course = course or facts.course(config.training.seed)
    train: list[OrderedDataset] = []
    for i, (dataset, part) in enumerate(zip(facts.datasets, course.parts, strict=True)):
        directory = prepared / "train" / str(i)
        if dataset.streaming:
            train.append(Chunks(directory, prepared / FAILED, course.seed, part.key))
        else:
            train.append(Shuffled(open_rows(directory), course.seed, part.key))
    validation = [open_rows(path) for path in sorted((prepared / "validation").glob("*"), key=lambda path: int(path.name))]
    return Samples(config, replica, CourseIndex(course), train, validation)


class Samples:
    """The step's batch is a function of what was consumed before it; nothing is kept between calls."""

    def __init__(
        self, config: TrainerConfig, replica: int, place: CourseIndex, train: Sequence[OrderedDataset], validation: Sequence[Rows]
    ) -> None:
        self._place = place
        self._train, self._validation = train, validation
        self._evaluated = config.evaluation.max_samples if config.evaluation else 0
        self._packed = is_packed(config.task, config.training.packing)
        self._size, self._length = config.batch.global_size, config.training.sequence_length
        grid = np.arange(self._size).reshape(config.batch.accumulation, config.mesh.dp, config.batch.micro_size)
        self._mine: Ints = grid[:, replica].ravel()

    def step_batch(self, consumed: int) -> StepBatch:
        """This replica's part of the step that comes when `consumed` samples were consumed by the steps before it."""
        datasets, ordinals = self._place.at(consumed + np.arange(self._size))
        rows = np.empty_like(ordinals)
        targets = 0
        for i in np.unique(datasets).tolist():
            of_dataset = datasets == i
            rows[of_dataset] = self._train[i].rows_of(ordinals[of_dataset])
            targets += int(self._train[i].targets(rows[of_dataset]).sum())
        return self._batch(self._train, datasets, rows, targets)

    def evaluation_batches(self) -> Iterator[StepBatch]:
        """The same validation rows each time, evaluation.maxSamples at most, spread over all sets. The last batch is filled up with
        rows without targets."""
        sizes = np.array([len(rows) for rows in self._validation], dtype=np.int64)
        ends = np.cumsum(sizes)
        total = int(ends[-1]) if len(ends) else 0
        chosen = (
            np.sort(permute(np.arange(min(total, self._evaluated)), total, (0,))) if total and self._evaluated else np.zeros(0, np.int64)
        )
        for start in range(0, len(chosen), self._size):
            some = chosen[start : start + self._size]
            datasets = np.searchsorted(ends, some, side="right")
            rows = some - (ends - sizes)[datasets]
            targets = sum(int(self._validation[i].targets(rows[datasets == i]).sum()) for i in np.unique(datasets).tolist())
            filler = np.full(self._size - len(some), -1)
            yield self._batch(self._validation, np.concatenate([datasets, filler]), np.concatenate([rows, filler]), targets)

    def _batch(self, sources: Sequence[OrderedDataset | Rows], datasets: Ints, rows: Ints, targets: int) -> StepBatch:
        datasets, rows = datasets[self._mine], rows[self._mine]
        columns: dict[str, Ints] = {}
        for i in np.unique(datasets).tolist():
            of_dataset = datasets == i
            for name, values in (sources[i].take(rows[of_dataset]) if i >= 0 else self._filling(int(of_dataset.sum()))).items():
                columns.setdefault(name, np.empty((len(rows), *values.shape[1:]), np.int64))[of_dataset] = values
        return StepBatch(
            columns={name: torch.from_numpy(values) for name, values in columns.items()}, packed=self._packed, target_tokens=targets
        )

    def _filling(self, rows: int) -> Columns:
        """So many rows without targets."""
        return {name: empty(name, rows, self._length) for name in self._validation[0].columns}
