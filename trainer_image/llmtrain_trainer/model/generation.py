"""Where generation ends: at the tokens that training teaches. Written beside the model's files, from where exports take it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from llmtrain_trainer.config.trainer import TrainerConfig
from llmtrain_trainer.data.blame import blamed_on
from llmtrain_trainer.model.tokenizer_facts import TokenizerFacts
from llmtrain_trainer.run_dir.layout import write_atomically

FILE = "generation_config.json"


def check_generation(model: Path, field: str, value: object) -> None:
    """Of a model whose files were placed. Raises BadData where they name ends or paddings that are no token ids."""
    way_out = "Correct it in a copy, and name that directory" if field == "model.source" else "Give token ids"
    for name in (FILE, "config.json"):
        with blamed_on(field, value, f"its {name} does not say where generation ends", way_out):
            said = _read(model / name)
            for key in ("eos_token_id", "pad_token_id", "bos_token_id"):
                if any(type(token) is not int for token in _ids(said.get(key))):
                    raise ValueError(f"{key} is {str(said[key])[:80]}, which is no token id")


def write_generation(model: Path, tokenizer: TokenizerFacts, ends: Sequence[int], *, labels: bool = False) -> list[int]:
    """Write generation_config.json into the directory of the model's files; returns the end tokens that it names.

    The tokens that answers end in come first, then the tokenizer's end token and those that the model had before. What else the model
    said of generation stays. `labels`: of a classifier.
    """
    found = _read(model / FILE)
    config = _read(model / "config.json")
    before = _ids(found.get("eos_token_id", config.get("eos_token_id")))
    eos = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    all_ends = list(dict.fromkeys([*ends, *eos, *before]))
    # A classifier is read where the padding begins, and the padding is the tokenizer's.
    named = () if labels else (found.get("pad_token_id"), config.get("pad_token_id"))
    pads = (tokenizer.pad_token_id, *named, *eos)
    begins = (tokenizer.bos_token_id, found.get("bos_token_id"), config.get("bos_token_id"))
    told = {
        "eos_token_id": all_ends if len(all_ends) > 1 else next(iter(all_ends), None),
        "pad_token_id": next((pad for pad in pads if pad is not None), None),
        "bos_token_id": next((begin for begin in begins if begin is not None), None),
    }
    write_atomically(
        model / FILE, json.dumps({**found, **{key: value for key, value in told.items() if value is not None}}, indent=2) + "\n"
    )
    return all_ends


def end_in(model: Path, ends: Sequence[int]) -> None:
    """Put `ends` before the end tokens that the model's files name. What they are called is in the tokenizer, which is not needed."""
    if ends:
        named = list(dict.fromkeys([*ends, *named_ends(model)]))
        said = {**_read(model / FILE), "eos_token_id": named if len(named) > 1 else named[0]}
        write_atomically(model / FILE, json.dumps(said, indent=2) + "\n")


def sentences(config: TrainerConfig, before: Sequence[int], ends: Sequence[int], names: dict[int, str]) -> Iterator[str]:
    """What a person must know of an adapter: its base's own files say where generation ends."""
    new = [names.get(token, str(token)) for token in ends if token not in before]
    if new and config.peft is not None and "adapter" in config.output.export:
        rule = f"answers end in {', '.join(new)}, at which the base model's own generation_config.json does not stop"
        yield f"output.export: {rule}; with the adapter pass eos_token_id to generate()"


def named_ends(model: Path) -> list[int]:
    """The end tokens that the model's own files name."""
    found, config = _read(model / FILE), _read(model / "config.json")
    return _ids(found.get("eos_token_id", config.get("eos_token_id")))


def name_end(directory: Path, ends: Sequence[int]) -> None:
    """In an exported tokenizer: its end token is the one that training taught, where that is another one.

    A template that writes the tokenizer's end token keeps it.
    """
    path = directory / "tokenizer_config.json"
    settings, names = _read(path), token_names(directory)
    template = directory / "chat_template.jinja"
    written = str(settings.get("chat_template", "")) + (template.read_text() if template.exists() else "")
    known = settings.get("eos_token")
    known = known["content"] if isinstance(known, dict) else known
    taught = [names[token] for token in ends if token in names]
    if taught and known not in taught and "eos_token" not in written:
        write_atomically(path, json.dumps({**settings, "eos_token": taught[0]}, indent=2, ensure_ascii=False) + "\n")


def name_pad(directory: Path) -> None:
    """In an exported tokenizer without one: the padding token that config.json beside it names, with which a classifier takes batches."""
    path, pad = directory / "tokenizer_config.json", _read(directory / "config.json").get("pad_token_id")
    settings, name = _read(path), token_names(directory).get(-1 if pad is None else pad)
    if settings.get("pad_token") is None and name is not None:
        write_atomically(path, json.dumps({**settings, "pad_token": name}, indent=2, ensure_ascii=False) + "\n")


def token_names(directory: Path) -> dict[int, str]:
    """Added tokens of a tokenizer.json by id."""
    return {token["id"]: token["content"] for token in _read(directory / "tokenizer.json").get("added_tokens", ())}


def _ids(value: Any) -> list[int]:
    if isinstance(value, list | tuple):
        return list(value)
    return [] if value is None else [value]


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found
