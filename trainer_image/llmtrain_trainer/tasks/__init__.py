"""How each task turns documents into rows: one module per task, chosen here by the name in the job."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from llmtrain_trainer.config.dataset import Truncate
from llmtrain_trainer.config.tables.tasks import Task
from llmtrain_trainer.config.training import Training
from llmtrain_trainer.data.formats.encoding import Encoded
from llmtrain_trainer.data.rows import SetStats
from llmtrain_trainer.tasks import classify, pretrain, sft


class RowWriter(Protocol):
    """Lays documents out as rows in a directory."""

    def add(self, documents: Iterable[Encoded]) -> None: ...

    def finish(self) -> SetStats:
        """Complete the files of the directory, including set.json."""
        ...


_WRITERS: dict[Task, Callable[[Path, Training, Truncate], RowWriter]] = {
    "pretrain": lambda directory, training, _: pretrain.StreamWriter(directory, training),
    "sft": sft.TableWriter,
    "classify": lambda directory, training, _: classify.ClassifyWriter(directory, training),
}


def rows_writer(task: Task, directory: Path, training: Training, truncate: Truncate) -> RowWriter:
    """The task's writer into an existing, empty directory. `truncate`: of the dataset."""
    return _WRITERS[task](directory, training, truncate)
