"""What of a tokenizer is needed where loading it would cost seconds. Written beside tokenizer.json when it is made."""

from __future__ import annotations

import json
from collections.abc import Iterator
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
    eos_token_id: int | None
    bos_token_id: int | None
    pad_token_id: int | None = None
    digest: str
    """Of what decides how text becomes ids."""

    @classmethod
    def save(cls, tokenizer: Any, directory: Path) -> None:
        """Of a tokenizer that was saved to `directory`."""
        names = sorted(path for path in directory.rglob("*") if path.name == "tokenizer.json" or path.suffix == ".jinja")
        highest = max(tokenizer.get_vocab().items(), key=lambda item: item[1])
        facts = cls(
            size=len(tokenizer),
            highest_id=highest[1],
            highest_token=highest[0],
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=tokenizer.bos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            digest=digest([file_digest(path) for path in names], tokenizer.eos_token, tokenizer.bos_token),
        )
        (directory / FILE).write_text(facts.model_dump_json(by_alias=True))

    @classmethod
    def load(cls, directory: Path) -> TokenizerFacts:
        found = json.loads((directory / FILE).read_text())
        if "highestId" not in found:  # made by a version that counted tokens alone
            highest = max(_ids(directory / "tokenizer.json"), key=lambda item: item[1])
            found |= {"highestToken": highest[0], "highestId": highest[1]}
        return cls.model_validate(found)


def _ids(file: Path) -> Iterator[tuple[str, int]]:
    """Every token of a tokenizer.json and its id."""
    from tokenizers import Tokenizer

    yield from Tokenizer.from_file(str(file)).get_vocab(with_added_tokens=True).items()
