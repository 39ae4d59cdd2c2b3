"""Preparation as a child of the warm server, so that its memory is freed at its end."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from functools import partial
from pathlib import Path

from llmtrain_trainer.config import ExitCode, TrainerConfig
from llmtrain_trainer.run_dir.last_words import write_last_words
from llmtrain_trainer.run_dir.layout import RunDir, write_atomically

CACHE = "LLMTRAIN_CACHE"
"""Environment variable: directory of the cache that runs share."""


def main(root: str) -> None:
    """Prepare run directory `root`; on an error, write errors/prepare.json and end the process."""
    run = RunDir(Path(root))
    run.prepare_error.unlink(missing_ok=True)
    try:
        from llmtrain_trainer.prepare.prepare import prepare

        prepare(TrainerConfig.model_validate_json(run.config.read_text()), run, Path(os.environ[CACHE]), partial(_say_to, run))
    except BaseException as error:
        traceback.print_exc()
        write_last_words(run.prepare_error, error, step=0, starting=True)
        sys.exit(ExitCode.RANK_FAILED)


def _say(line: str) -> None:
    print(line, flush=True)


def _say_to(run: RunDir, line: str) -> None:
    """Into the log, and where the agent shows it to whoever waits."""
    _say(line)
    write_atomically(run.preparing, line)


def stream(root: str) -> None:
    """Tokenise streaming datasets while the ranks train; ends with the agent. Writes errors/stream.json on an error."""
    run = RunDir(Path(root))
    try:
        from llmtrain_trainer.prepare.chunks import stream_chunks

        stream_chunks(TrainerConfig.model_validate_json(run.config.read_text()), run, _say, threading.Event())
    except BaseException as error:
        traceback.print_exc()
        write_last_words(run.stream_error, error, step=0, starting=False)
        sys.exit(ExitCode.RANK_FAILED)
