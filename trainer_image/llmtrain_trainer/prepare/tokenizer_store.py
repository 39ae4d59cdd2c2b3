"""Tokenizers that jobs trained, kept beside their checkpoints, so that another node, or a run with an empty cache, uses the same one.

    <destination>/tokenizers/<digest>/<files>    put only if absent
    <destination>/tokenizers/<digest>/made.json  what it was made with, and the digests of its files; put last
    <destination>/tokenizers/for-<key>.json      which of them belongs to these settings and this data; the first to put it decides

Training one twice need not give the same: the scores of unigram depend on the hash order inside the library.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from llmtrain_trainer.checkpoint.manifest import Written
from llmtrain_trainer.checkpoint.restore import list_checkpoints, read
from llmtrain_trainer.checkpoint.store.errors import BadCheckpointError, MissingError
from llmtrain_trainer.checkpoint.store.store import Store, read_or_none
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.blame import blamed_on
from llmtrain_trainer.data.cache import DONE
from llmtrain_trainer.data.formats.encoding import load_tokenizer
from llmtrain_trainer.model.tokenizer_facts import FILE, TokenizerFacts

PREFIX, MADE = "tokenizers", "made.json"
_WAY_OUT = "Restore the original files, or start from step 0 with checkpoint.resume: none and another checkpoint.destination"

FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]


class TokenizerRecord(Written):
    """made.json."""

    recipe: str
    """Digest of the settings it was trained with."""

    files: dict[FileName, str]
    """SHA-256 by name."""


@dataclass(frozen=True)
class TokenizerStore:
    """Of one destination. Raises StoreError where it does not answer."""

    store: Store

    def of_checkpoint(self, resume: Literal["latest", "none"] | int, recipe: str) -> str | None:
        """Digest of the tokenizer of the checkpoint that the run resumes from, if it is kept here and has the same settings."""
        for found in list_checkpoints(self.store) if resume != "none" else ():
            if not found.committed or resume not in ("latest", found.step):
                continue
            try:
                digest = read(found, self.store).meta.tokenizer_hash
            except BadCheckpointError:  # it is not chosen either
                continue
            made = self._made(digest) if digest else None
            return digest if made is not None and made.recipe == recipe else None
        return None

    def of_data(self, key: str) -> str | None:
        """Digest of the one that was trained with these settings on this data first."""
        try:
            return str(json.loads(self.store.get_bytes(f"{PREFIX}/for-{key}.json"))["tokenizer"])
        except MissingError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(f"for-{key}.json", "it is no JSON that names a tokenizer") from error

    def keep(self, directory: Path, digest: str, recipe: str, key: str) -> str:
        """Put a tokenizer that was just trained. Returns the digest of the one to use: another node may have been first."""
        files = {path.name: self._put(f"{PREFIX}/{digest}/{path.name}", path.read_bytes()) for path in _files(directory)}
        self.store.put_if_absent(f"{PREFIX}/{digest}/{MADE}", _json(TokenizerRecord(recipe=recipe, files=files).model_dump()))
        self.store.put_if_absent(f"{PREFIX}/for-{key}.json", _json({"tokenizer": digest}))
        return self.of_data(key) or digest

    def fetch(self, digest: str, into: Path) -> None:
        """Write its files. Raises BadData where they are not those that were put, or not the tokenizer of this digest."""
        made = self._made(digest)
        if made is None:
            raise self._damaged(digest, f"it has no {MADE}")
        for name, sha256 in made.files.items():
            try:
                content = self.store.get_bytes(f"{PREFIX}/{digest}/{name}")
            except MissingError as error:
                raise self._damaged(digest, f"it lacks {name}") from error
            if (got := hashlib.sha256(content).hexdigest()) != sha256:
                raise self._damaged(f"{digest}/{name}", f"its sha256 is {got[:12]}, {MADE} says {sha256[:12]}")
            (into / name).write_bytes(content)
        with blamed_on(
            "checkpoint.destination", self.store.uri(f"{PREFIX}/{digest}"), "the tokenizer kept there cannot be loaded", _WAY_OUT
        ):
            TokenizerFacts.save(load_tokenizer(into), into)
        if (got := TokenizerFacts.load(into).digest) != digest:
            raise self._damaged(digest, f"its digest is {got}")

    def _made(self, digest: str) -> TokenizerRecord | None:
        data = read_or_none(self.store, f"{PREFIX}/{digest}/{MADE}")
        try:
            return TokenizerRecord.model_validate_json(data) if data is not None else None
        except ValidationError as error:
            raise self._damaged(f"{digest}/{MADE}", f"it cannot be read ({error.errors()[0]['msg']})") from error

    def _put(self, key: str, content: bytes) -> str:
        """SHA-256 of what is there then."""
        there = content if self.store.put_if_absent(key, content) else self.store.get_bytes(key)
        return hashlib.sha256(there).hexdigest()

    def _damaged(self, what: str, rule: str) -> BadData:
        rule = f"the tokenizer kept at {self.store.uri(f'{PREFIX}/{what}')} cannot be used: {rule}"
        return BadData("checkpoint.destination", self.store.uri(), rule, _WAY_OUT)


def _files(directory: Path) -> list[Path]:
    return [path for path in sorted(directory.iterdir()) if path.is_file() and path.name not in (DONE, FILE)]


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode() + b"\n"
