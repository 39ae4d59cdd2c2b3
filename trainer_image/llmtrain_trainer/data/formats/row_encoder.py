"""Rows to token ids, with the row named that cannot be rendered or tokenised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmtrain_trainer.config.dataset import Dataset
from llmtrain_trainer.config.trainer import TrainerConfig
from llmtrain_trainer.data.bad_data import BadData, Unreachable
from llmtrain_trainer.data.blame import blamed_on, judged
from llmtrain_trainer.data.formats.chat_template import BrokenTemplateError
from llmtrain_trainer.data.formats.encoding import Encoded, Encoder
from llmtrain_trainer.data.formats.ids import IdEncoder
from llmtrain_trainer.data.sources.dataset import Row
from llmtrain_trainer.data.sources.reading import Reading

MOST_SHOWN = 60
"""Characters of a template that a message shows."""

_RULE, _WAY_OUT = "it cannot be made tokens", "Correct the row, or leave it out"


class RowEncoder:
    """An Encoder of one dataset whose errors are BadData."""

    def __init__(self, field: str, dataset: Dataset, tokenizer: Any, config: TrainerConfig, reading: Reading) -> None:
        self._field, self._dataset, self._config, self._reading = field, dataset, config, reading
        with blamed_on(*tokenizer_of(config), "it cannot be used", "Give another tokenizer.source"):
            if dataset.format == "tokens":
                self._encode: Encoder | IdEncoder = IdEncoder(field, dataset, tokenizer, config.task)
            else:
                self._encode = Encoder(field, dataset, tokenizer, config.labels)

    def __call__(self, rows: Sequence[Row]) -> list[Encoded]:
        """One result a row, but for those that are left out. Raises BadData for one that ends the job, Unreachable."""
        try:
            return self._usable(rows)
        except BrokenTemplateError as error:
            raise _broken(self._config, str(error)) from error

    def _usable(self, rows: Sequence[Row]) -> list[Encoded]:
        try:
            return self._judged(rows)
        except BadData as error:
            if len(rows) > 1 and self._dataset.bad_rows == "skip":
                return [encoded for row in rows for encoded in self._usable([row])]
            self._reading.skip(self._dataset, error)
            return []

    def _judged(self, rows: Sequence[Row]) -> list[Encoded]:
        """The tokenizers' PanicException is no Exception, so every error is looked at."""
        try:
            return self._encode(rows)
        except (BadData, BrokenTemplateError, Unreachable, MemoryError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            if len(rows) > 1:
                for row in rows:
                    self._judged([row])
            place = rows[0].place if len(rows) == 1 else self._dataset.source
            raise judged(error, f"{self._field}.source", place, _RULE, _WAY_OUT) from error


def tokenizer_of(config: TrainerConfig) -> tuple[str, str]:
    """The field of the manifest that a tokenizer comes from, and what stands there."""
    settings = config.tokenizer
    if settings and settings.train:
        return "tokenizer.train.algorithm", settings.train.algorithm
    if settings and settings.source:
        return "tokenizer.source", settings.source
    return "model.source", str(config.model.source)


def _broken(config: TrainerConfig, why: str) -> BadData:
    given = config.tokenizer.chat_template if config.tokenizer else None
    if given is not None:
        short = given if len(given) <= MOST_SHOWN else f"{given[:MOST_SHOWN]}..."
        return BadData("tokenizer.chatTemplate", short, f"the template can write no conversation ({why})", "Correct the template")
    rule = f"its chat template can write no conversation ({why})"
    return BadData(*tokenizer_of(config), rule, "Correct it, or give another template in tokenizer.chatTemplate")
