"""Rows to token ids, with the row named that cannot be rendered or tokenised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmtrain_trainer.config.dataset import Dataset
from llmtrain_trainer.data.bad_data import BadData, Unreachable
from llmtrain_trainer.data.blame import blamed_on, judged
from llmtrain_trainer.data.formats.encoding import Encoded, Encoder
from llmtrain_trainer.data.sources.dataset import Row

_RULE, _WAY_OUT = "it cannot be made tokens", "Correct the row, or leave it out"


class RowEncoder:
    """An Encoder of one dataset whose errors are BadData."""

    def __init__(self, field: str, dataset: Dataset, tokenizer: Any) -> None:
        self._field, self._dataset = field, dataset
        with blamed_on("tokenizer", tokenizer.name_or_path, "it cannot be used", "Give another tokenizer.source"):
            self._encode = Encoder(field, dataset, tokenizer)

    def __call__(self, rows: Sequence[Row]) -> list[Encoded]:
        """One result a row. The tokenizers' PanicException is no Exception, so every error is looked at."""
        try:
            return self._encode(rows)
        except (BadData, Unreachable, MemoryError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            if len(rows) > 1:
                for row in rows:
                    self([row])
            place = rows[0].place if len(rows) == 1 else self._dataset.source
            raise judged(error, f"{self._field}.source", place, _RULE, _WAY_OUT) from error
