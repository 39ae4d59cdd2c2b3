"""Refusals of a tokenizer's files: ids that are too large for the library, special tokens that are not in the vocabulary."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.blame import first_line
from llmtrain_trainer.data.sources.disguised import A_PAGE, POINTER

HIGHEST_ID = (1 << 22) - 1
"""Highest token id: sixteen times the largest vocabulary in use. The tokenizers library keeps tables as long as the highest id."""

NAMED = ("eos_token", "bos_token", "pad_token", "unk_token")
"""Special tokens that training or generation uses."""

_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json")


def check_json(field: str, source: str, files: Sequence[Path]) -> None:
    """Check that the files named .json hold JSON objects. Raises BadData with the file's name."""
    for path in files:
        if path.suffix == ".json" and (why := _no_object(path.read_bytes())) is not None:
            raise BadData(field, source, f"{path.name} in it {why[0]}", why[1])


def _no_object(content: bytes) -> tuple[str, str] | None:
    """(rule, way out) where a file's content is no JSON object."""
    if content.startswith(POINTER):
        return "is a pointer of Git LFS, not the file itself", "Fetch the file, such as with git lfs pull"
    if content.startswith(codecs.BOM_UTF8):
        return "begins with a byte order mark, which the tokenizers library does not read", "Save it as UTF-8 without one"
    if content.lstrip()[:1] == b"<":
        return "is not JSON", A_PAGE
    try:
        found = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        return f"is not JSON ({first_line(error)})", "Copy the file again from where the tokenizer comes from"
    return None if isinstance(found, dict) else ("is no JSON object", "Copy the file again from where the tokenizer comes from")


def check_ids(field: str, source: str, files: Sequence[Path]) -> None:
    """Check the files before the library reads them. Raises BadData for a token id above HIGHEST_ID."""
    for path in files:
        for token, number in _ids(path):
            if isinstance(number, int) and number > HIGHEST_ID:
                rule = f"{path.name} gives the token {str(token)[:60]} the id {number}, and ids end at {HIGHEST_ID}"
                raise BadData(field, source, rule, "Number the tokens without such a gap, or give another tokenizer")


def check_loaded(field: str, source: str, tokenizer: Any, files: Sequence[Path]) -> None:
    """Check a loaded tokenizer, to which the library has added missing tokens. Raises BadData if it cannot be used for training."""
    if not tokenizer.eos_token:
        way_out = "Name one of its tokens as eos_token in tokenizer_config.json, if need be in a copy of the directory"
        raise BadData(field, source, "the tokenizer in it has no end token (eos_token)", way_out)
    if getattr(tokenizer.backend_tokenizer.model, "dropout", None):
        rule = "its tokenizer.json has a dropout in the model, so that the same text becomes other tokens at each start"
        raise BadData(field, source, rule, "Set model.dropout to null there")
    known = set(tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False)) | {token for path in files for token, _ in _ids(path)}
    named = [_read(path) for path in files if path.name in _SETTINGS]
    for name in NAMED:
        token = str(getattr(tokenizer, name))
        said = name == "eos_token" or any(settings.get(name) for settings in named)
        if said and getattr(tokenizer, name) is not None and token not in known:
            rule = f"its {name} is {token}, which is not in the vocabulary of the tokenizer"
            add = f"add {token} to tokenizer.json (added_tokens) with an id of its own"
            way_out = f"Name a token that is there as {name} in tokenizer_config.json, or {add}"
            raise BadData(field, source, rule, way_out)


def _ids(path: Path) -> Iterator[tuple[str, Any]]:
    """Tokens and ids that a file of a tokenizer gives."""
    if path.name == "tokenizer.json":
        found = _read(path)
        model = found.get("model")
        yield from _pairs(model.get("vocab") if isinstance(model, dict) else None)
        yield from _added(found.get("added_tokens"))
    elif path.name == "tokenizer_config.json":
        declared = _read(path).get("added_tokens_decoder")
        if isinstance(declared, dict):
            yield from ((_content(token), _number(number)) for number, token in declared.items() if number.isdecimal())
    elif path.name in ("added_tokens.json", "vocab.json"):
        yield from _pairs(_read(path))


def _pairs(vocabulary: Any) -> Iterable[tuple[str, Any]]:
    """Tokens and ids of a model's vocabulary: an object, or a list of [token, score]."""
    if isinstance(vocabulary, dict):
        return vocabulary.items()
    return (
        ((str(item[0]), number) for number, item in enumerate(vocabulary) if item and isinstance(item, list))
        if isinstance(vocabulary, list)
        else ()
    )


def _added(tokens: Any) -> Iterator[tuple[str, Any]]:
    for token in tokens if isinstance(tokens, list) else ():
        if isinstance(token, dict):
            yield _content(token), token.get("id")


def _number(text: str) -> int:
    """The number of a text of digits, which may be longer than Python converts."""
    return int(text) if len(text) < 20 else HIGHEST_ID + 1


def _content(token: Any) -> str:
    return str(token.get("content")) if isinstance(token, dict) else str(token)


def _read(path: Path) -> dict[str, Any]:
    """The JSON object of a file; {} if it is none: the library's error is better."""
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
