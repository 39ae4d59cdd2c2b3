"""The program that a rank runs, by task and engine. One file per program.

A program may own its loop, as a library's trainer does. To run under the agent it writes heartbeats, checks for `run.stop`, appends rows to
`run.metrics` on rank 0, stages checkpoints in `run.staging`, and ends in an ExitCode on all ranks together: none may leave while another
can still fail. Every rank runs the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from llmtrain_trainer.config import EngineName, ExitCode, TrainerConfig
from llmtrain_trainer.config.tables.tasks import Task
from llmtrain_trainer.engines.registry import ENGINES
from llmtrain_trainer.objectives import OBJECTIVES
from llmtrain_trainer.rank.start import Start
from llmtrain_trainer.rank.step_loop import step_loop

Program = Callable[[Start], ExitCode]

PROGRAMS: Mapping[tuple[Task, EngineName], Program] = {(task, engine): step_loop for task in OBJECTIVES for engine in ENGINES}
"""A task with an objective is trained step by step by every engine."""


def program_of(config: TrainerConfig) -> Program:
    return PROGRAMS[config.task, config.engine]
