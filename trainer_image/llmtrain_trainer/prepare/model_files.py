"""The model's files in run.prepared/model: config.json and, if pretrained, *.safetensors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from llmtrain_trainer.config.model import CODE, Model
from llmtrain_trainer.config.tables.tasks import DEFAULT_TASK, Task
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.blame import blamed_on
from llmtrain_trainer.data.cache import build_once, digest, link
from llmtrain_trainer.data.sources.files import DataFile
from llmtrain_trainer.data.sources.listing import list_files
from llmtrain_trainer.model.generation import check_generation
from llmtrain_trainer.model.tokenizer_facts import TokenizerFacts
from llmtrain_trainer.model.weight_files import WrongWeightsError, chosen
from llmtrain_trainer.prepare.fitting import check_model
from llmtrain_trainer.prepare.vocabulary import fit
from llmtrain_trainer.run_dir.layout import write_atomically

SHAPE = ("config.json", "generation_config.json")
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
TOKENIZER = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "chat_template*",
    "*.model",
    "config.json",
)


def local_files(field: str, source: str, revision: str | None, patterns: Sequence[str], cache: Path) -> list[Path]:
    """Files of the top directory of a source that match, on this machine; those of a store are downloaded once."""
    files = [
        file
        for file in list_files(field, source, revision=revision, patterns=patterns)
        if "/" not in file.name and any(fnmatch(file.name, pattern) for pattern in patterns)
    ]
    return _fetched(field, files, cache)


def _fetched(field: str, files: Sequence[DataFile], cache: Path) -> list[Path]:
    """The files on this machine, in the same order."""
    if all(file.local for file in files):
        return [file.local for file in files if file.local]
    directory = build_once(cache / "downloads" / digest([file.identity for file in files]), lambda draft: _download(field, files, draft))
    return [directory / file.name for file in files]


def _download(field: str, files: Sequence[DataFile], directory: Path) -> None:
    for file in files:
        with (
            blamed_on(field, file.uri, "it cannot be read", "Check the file and the permissions"),
            file.open() as source,
            (directory / file.name).open("wb") as target,
        ):
            shutil.copyfileobj(source, target, 16 << 20)


def place_model(
    model: Model,
    tokenizer: TokenizerFacts,
    directory: Path,
    cache: Path,
    say: Callable[[str], None],
    note: Callable[[str], None],
    fixed: str | None = None,
    task: Task = DEFAULT_TASK,
    head: Callable[[Path], object] = lambda _: None,
) -> int:
    """Fill `directory`; returns the vocabulary size of the model as it is trained. `head` describes the head of the task in config.json.

    `note` receives a sentence for each file that is ignored or changed. `fixed`: why the embedding cannot get new rows. Raises BadData if
    files are missing or are not those of the model, or if the tokenizer does not fit.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if model.config is not None:
        config = _with_special_tokens(model.config, tokenizer)
        write_atomically(directory / "config.json", json.dumps(config, indent=2, sort_keys=True) + "\n")
    else:
        found = _model_files(model, cache)
        for path in found:
            link(path, directory / path.name)
        say(f"model files: {len(found)} from {model.source}")
        _tell_of_code(directory, note)
    field, value = ("model.source", model.source) if model.config is None else ("model.config", "model.config")
    check_generation(directory, field, value)
    head(directory)
    return fit(model, tokenizer, check_model(model, directory, note, task), directory, fixed, note)


def _tell_of_code(directory: Path, note: Callable[[str], None]) -> None:
    """Notice for a config.json that names code: files of its repository, or kernels of a hub."""
    with suppress(ValueError, RecursionError):  # the model is refused for that
        config = json.loads((directory / "config.json").read_text())
        named = [key for key in CODE if isinstance(config, dict) and (key == "auto_map" or "/" in str(config.get(key))) and config.get(key)]
        if named:
            own = f"transformers' own {config.get('model_type')}"
            note(f"model.source: its config.json names code ({', '.join(named)}), which is not run: {own} is trained.")


def _model_files(model: Model, cache: Path) -> list[Path]:
    """config.json and, if weights are read, the files of the directory that hold them."""
    assert model.source is not None, "the manifest gives model.source or model.config"
    weights = model.init == "pretrained"
    there = list_files("model.source", model.source, revision=model.revision, patterns=SHAPE + (WEIGHTS if weights else ()))
    by_name = {file.name: file for file in there if "/" not in file.name}
    if "config.json" not in by_name:
        raise BadData("model.source", model.source, "there is no config.json", "Give a directory or repository in Hugging Face's format")
    try:
        wanted = (*SHAPE, *(chosen(by_name) if weights else ()))
    except WrongWeightsError as error:
        raise BadData("model.source", model.source, error.rule, error.way_out) from error
    return _fetched("model.source", [by_name[name] for name in wanted if name in by_name], cache)


def _with_special_tokens(config: dict[str, Any], tokenizer: TokenizerFacts) -> dict[str, Any]:
    """Replace the special tokens that a family has as defaults by those of this run's tokenizer."""
    return {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id, **config}
