"""Which program a rank runs."""

from __future__ import annotations

from typing import get_args

from llmtrain_trainer.config import EngineName
from llmtrain_trainer.config.tables.tasks import Task
from llmtrain_trainer.rank.programs import PROGRAMS


def test_every_task_has_a_program_on_every_engine() -> None:
    assert set(PROGRAMS) == {(task, engine) for task in get_args(Task) for engine in get_args(EngineName)}
