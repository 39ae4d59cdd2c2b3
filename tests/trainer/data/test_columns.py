"""Rows as named columns: what set.json names is what a batch has."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from small_job import Job, config_of

from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.data.columns import OF_TOKENS
from llmtrain_trainer.data.rows import open_rows
from llmtrain_trainer.data.samples import open_samples

ROWS = [{"prompt": f"Question {i}? ", "completion": f"Answer {i}."} for i in range(40)]


CONFIG = {"mesh": {"stages": [[0, 2]]}, "batch": {"globalSize": 8, "microSize": 2, "accumulation": 4}}


def answers(job: Job) -> tuple[TrainerConfig, Path]:
    """A job of prompts and completions, and where its rows are."""
    dataset = {"source": job.rows_file("p.jsonl", ROWS), "format": "promptCompletion"}
    config = config_of([dataset], task="sft", training={"sequenceLength": 64, "packing": False}, **CONFIG)
    job.prepare(config)
    return config, job.run.prepared / "train" / "0"


def edit_stats(directory: Path, **changes: object) -> None:
    """set.json with fields changed; one that becomes None is taken out."""
    path = directory / "set.json"
    held = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in held.items() if value is not None}))


def test_rows_that_were_written_before_columns_had_names_are_read(job: Job) -> None:
    _, directory = answers(job)
    edit_stats(directory, columns=None)
    rows = open_rows(directory)
    assert rows.columns == OF_TOKENS
    assert tuple(rows.take(np.arange(3))) == OF_TOKENS


def test_a_column_more_of_the_rows_is_a_column_more_of_the_batch(job: Job) -> None:
    config, directory = answers(job)
    marks = np.arange(len(open_rows(directory)), dtype=np.int32)
    np.save(directory / "marks.npy", marks)
    edit_stats(directory, columns=[*OF_TOKENS, "marks"])
    batch = open_samples(job.run.prepared, config, 0).step_batch(0)
    assert set(batch.columns) == {*OF_TOKENS, "marks"}
    inputs = open_rows(directory).take(batch["marks"].numpy())["input_ids"]
    assert (batch["input_ids"].numpy() == inputs).all()
