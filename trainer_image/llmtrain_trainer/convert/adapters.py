"""Adapters in peft's files: taken from there, and written from a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

from llmtrain_trainer.checkpoint_readers.reader import CheckpointReader
from llmtrain_trainer.config import Peft, TrainerConfig
from llmtrain_trainer.config.tables.adapters import peft_options
from llmtrain_trainer.convert.targets import alone
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.cache import link
from llmtrain_trainer.model.export import write_export
from llmtrain_trainer.model.materialize import ADAPTER
from llmtrain_trainer.prepare.model_files import local_files

CONFIG = "adapter_config.json"


def link_adapter(peft: Peft, uri: str, directory: Path, cache: Path) -> None:
    """Put the files at `uri` into `directory`. Raises BadData where they are not there, or were trained with other settings."""
    found = {path.name: path for path in local_files("--from", uri, None, (ADAPTER.name, CONFIG), cache)}
    if len(found) < 2:
        raise BadData("--from", uri, f"there is no {ADAPTER.name} with {CONFIG}", "Give a directory or repository in peft's format")
    _check(peft, uri, json.loads(found[CONFIG].read_text()))
    directory.mkdir()
    for name, path in found.items():
        link(path, directory / name)


def write_adapter(config: TrainerConfig, weights: CheckpointReader, model_dir: Path, directory: Path) -> None:
    """What PeftModel.from_pretrained reads, in fp32."""
    with alone():
        write_export(config, model_dir, weights, directory, "adapter")


def _check(peft: Peft, uri: str, stored: dict[str, object]) -> None:
    """The same factors with another scale are another model, and their shapes do not tell."""
    wanted = {"r": peft.rank, "lora_alpha": peft.alpha, **peft_options(peft.method)}
    for key, value in wanted.items():
        if stored.get(key, False) != value:
            raise BadData(
                "--from", uri, f"its {key} is {stored.get(key)}, and spec.peft makes it {value}", "Set spec.peft as it was trained"
            )
