"""A small job, written as TrainerConfig, whose data and tokenizer the tests make themselves."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.prepare.prepare import Prepared, prepare
from llmtrain_trainer.run_dir.layout import RunDir

WORDS = ["the", "model", "reads", "a", "token", "and", "tells", "what", "comes", "next", "in", "every", "sentence", "of", "our", "text"]


def sentence(number: int) -> str:
    """Text that differs by number and holds the same few words."""
    return " ".join(Random(number).choices(WORDS, k=23)) + f" {number}.\n"


def config_of(dataset: list[dict[str, Any]], **changes: Any) -> TrainerConfig:
    """dp 2, micro 2, accumulation 2: a global batch of 8 rows of 16 tokens."""
    training = {"globalBatchSize": 8, "microBatchSize": 2, "sequenceLength": 16, "maxSteps": 5, **changes.pop("training", {})}
    batch = {"globalSize": 8, "microSize": 2, "accumulation": 2}
    given = {
        "job": {"name": "t"},
        "task": "pretrain",
        "engine": "native",
        "device": "cpu",
        "model": {"config": {"model_type": "llama", "vocab_size": 512}},
        "tokenizer": {"train": {"algorithm": "bpe", "vocabSize": 300}},
        "dataset": dataset,
        "training": training,
        "mesh": {"dp": 2, "stages": [[0, 2]]},
        "batch": batch,
        **changes,
    }
    return TrainerConfig.model_validate(given)


class Job:
    """Prepares configurations in a directory of its own and keeps what was said."""

    def __init__(self, root: Path) -> None:
        self.root, self.said = root, list[str]()
        self.run = RunDir(root / "run")
        self.cache = root / "cache"

    def prepare(self, config: TrainerConfig) -> Prepared:
        self.said.clear()
        return prepare(config, self.run, self.cache, self.said.append)

    def text_file(self, name: str = "text.jsonl", count: int = 60, start: int = 0) -> str:
        """A .jsonl file of sentences; returns its URI."""
        return self.rows_file(name, [{"text": sentence(start + i)} for i in range(count)])

    def rows_file(self, name: str, rows: list[Any]) -> str:
        path = self.root / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return f"file://{path}"
