"""What of a tokenizer is needed where loading it would cost seconds. Written beside tokenizer.json when it is made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmtrain_trainer.config.strict import Strict
from llmtrain_trainer.data.cache import digest, file_digest

FILE = "llmtrain.json"


class TokenizerFacts(Strict):
    """Of one tokenizer directory."""

    size: int
    """Tokens, special ones included."""

    highest_id: int
    """Ids may have gaps: what an embedding must hold is the highest one."""

    highest_token: str
    highest_own_id: int | None = None
    """Of the tokens that the tokenizer was trained with, without those added to it later."""

    added: int = 0
    """Tokens that were added."""

    eos_token_id: int | None
    bos_token_id: int | None
    pad_token_id: int | None = None
    digest: str
    """Of what decides how text becomes ids."""

    @classmethod
    def save(cls, tokenizer: Any, directory: Path) -> None:
        """Of a tokenizer that was saved to `directory`."""
        names = sorted(path for path in directory.rglob("*") if path.name == "tokenizer.json" or path.suffix == ".jinja")
        vocabulary, added = tokenizer.get_vocab(), tokenizer.get_added_vocab()
        highest = max(vocabulary.items(), key=lambda item: item[1])
        facts = cls(
            size=len(tokenizer),
            highest_id=highest[1],
            highest_token=highest[0],
            highest_own_id=max((number for token, number in vocabulary.items() if token not in added), default=-1),
            added=len(added),
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=tokenizer.bos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            digest=digest([file_digest(path) for path in names], tokenizer.eos_token, tokenizer.bos_token),
        )
        (directory / FILE).write_text(facts.model_dump_json(by_alias=True))

    @classmethod
    def load(cls, directory: Path) -> TokenizerFacts:
        found = json.loads((directory / FILE).read_text())
        if "highestOwnId" not in found:  # made by a version that counted tokens alone
            found |= _highest(directory / "tokenizer.json")
        return cls.model_validate(found)


def _highest(file: Path) -> dict[str, Any]:
    from tokenizers import Tokenizer

    backend = Tokenizer.from_file(str(file))
    vocabulary, added = backend.get_vocab(with_added_tokens=True), backend.get_added_tokens_decoder()
    own = [number for number in vocabulary.values() if number not in added]
    highest = max(vocabulary.items(), key=lambda item: item[1])
    return {"highestToken": highest[0], "highestId": highest[1], "highestOwnId": max(own, default=-1), "added": len(added)}
