"""What of a tokenizer is needed where loading it would cost seconds. Written beside tokenizer.json when it is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmtrain_trainer.config.strict import Strict
from llmtrain_trainer.data.cache import digest, file_digest

FILE = "llmtrain.json"


class TokenizerFacts(Strict):
    """Of one tokenizer directory."""

    size: int
    """Tokens, special ones included."""

    eos_token_id: int | None
    bos_token_id: int | None
    digest: str
    """Of what decides how text becomes ids."""

    @classmethod
    def save(cls, tokenizer: Any, directory: Path) -> None:
        """Of a tokenizer that was saved to `directory`."""
        names = sorted(path for path in directory.iterdir() if path.name in ("tokenizer.json", "chat_template.jinja"))
        facts = cls(
            size=len(tokenizer),
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=tokenizer.bos_token_id,
            digest=digest([file_digest(path) for path in names], tokenizer.eos_token, tokenizer.bos_token),
        )
        (directory / FILE).write_text(facts.model_dump_json(by_alias=True))

    @classmethod
    def load(cls, directory: Path) -> TokenizerFacts:
        return cls.model_validate_json((directory / FILE).read_text())
