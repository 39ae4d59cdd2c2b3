"""The model's files in run.prepared/model: config.json and, if pretrained, *.safetensors. Called by prepare."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from llmtrain_trainer.config.model import Model
from llmtrain_trainer.data.bad_data import BadData, Unreachable
from llmtrain_trainer.data.cache import build_once, digest, link
from llmtrain_trainer.data.files import File
from llmtrain_trainer.data.listing import list_files
from llmtrain_trainer.data.tokenizer_facts import TokenizerFacts
from llmtrain_trainer.run_dir import write_atomically

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
    if all(file.local for file in files):
        return [file.local for file in files if file.local]
    directory = build_once(cache / "downloads" / digest([file.identity for file in files]), lambda draft: _download(field, files, draft))
    return [directory / file.name for file in files]


def _download(field: str, files: Sequence[File], directory: Path) -> None:
    for file in files:
        try:
            with file.open() as source, (directory / file.name).open("wb") as target:
                shutil.copyfileobj(source, target, 16 << 20)
        except Exception as error:  # botocore and aiohttp raise many types for one thing: no answer
            raise Unreachable(field, file.uri, error) from error


def place_model(model: Model, tokenizer: TokenizerFacts, directory: Path, cache: Path, say: Callable[[str], None]) -> int:
    """Fill `directory`; returns the vocabulary size of the model. Raises BadData where files lack or the tokenizer does not fit."""
    directory.mkdir(parents=True, exist_ok=True)
    if model.config is not None:
        config = _with_special_tokens(model.config, tokenizer)
        write_atomically(directory / "config.json", json.dumps(config, indent=2, sort_keys=True) + "\n")
    else:
        assert model.source is not None, "the manifest gives model.source or model.config"
        patterns = SHAPE + (WEIGHTS if model.init == "pretrained" else ())
        found = local_files("model.source", model.source, model.revision, patterns, cache)
        _check(model, {path.name for path in found})
        for path in found:
            link(path, directory / path.name)
        say(f"model files: {len(found)} from {model.source}")
    return _checked_vocabulary(directory, tokenizer)


def _with_special_tokens(config: dict[str, Any], tokenizer: TokenizerFacts) -> dict[str, Any]:
    """Defaults of a family name the special tokens of its own tokenizer; those of this run's tokenizer are right."""
    return {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id, **config}


def _check(model: Model, names: set[str]) -> None:
    if "config.json" not in names:
        raise BadData("model.source", model.source, "there is no config.json", "Give a directory or repository in Hugging Face's format")
    if model.init == "pretrained" and not any(name.endswith(".safetensors") for name in names):
        way_out = "Convert the weights to safetensors, or set model.init: random"
        raise BadData("model.source", model.source, "there is no *.safetensors", way_out)


def _checked_vocabulary(directory: Path, tokenizer: TokenizerFacts) -> int:
    config = json.loads((directory / "config.json").read_text())
    size = config.get("vocab_size") or config.get("text_config", {}).get("vocab_size") or _default_vocabulary(config)
    if tokenizer.size > size:
        rule = f"the tokenizer has {tokenizer.size} tokens, which the embedding cannot hold"
        raise BadData("model.config.vocab_size", size, rule, f"Set vocab_size to at least {tokenizer.size}, or train a smaller tokenizer")
    return int(size)


def _default_vocabulary(config: dict[str, Any]) -> int:
    from transformers import AutoConfig

    try:
        return int(AutoConfig.for_model(**config).vocab_size)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        rule = f"it names no vocabulary size, and its family gives none ({error})"
        raise BadData("model.config", config.get("model_type"), rule, "Set vocab_size") from error
