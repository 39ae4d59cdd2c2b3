"""Rows that are token ids already: what a tokenizer outside made of documents, and which of them are learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from llmtrain_trainer.config.dataset import Dataset
from llmtrain_trainer.config.tables.tasks import TASKS, Task
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.columns import NO_TARGET
from llmtrain_trainer.data.formats.cells import value_in
from llmtrain_trainer.data.formats.columns import check_columns
from llmtrain_trainer.data.formats.encoding import Encoded
from llmtrain_trainer.data.formats.turns import described, from_json
from llmtrain_trainer.data.sources.readers import Row


class IdEncoder:
    """Takes rows of format tokens as they are: nothing is put before or after them. `tokenizer`: that of the run."""

    def __init__(self, field: str, dataset: Dataset, tokenizer: Any, task: Task) -> None:
        self._field, self._dataset, self._task = field, dataset, task
        self._known = np.array(sorted(tokenizer.get_vocab().values()), dtype=np.int64)
        self._bos, self._special = tokenizer.bos_token_id, set(tokenizer.all_special_ids)

    def __call__(self, rows: Sequence[Row]) -> list[Encoded]:
        """One result a row. Raises BadData with the row."""
        return [self._encoded(row) for row in rows]

    def _encoded(self, row: Row) -> Encoded:
        found = check_columns(self._field, self._dataset, row)
        ids = self._integers(row, self._dataset.columns.ids, value_in(self._field, self._dataset, row, "ids"))
        self._check_known(row, ids)
        loss_mask = self._loss_mask(row, ids)
        if (mask := row.values.get("attention_mask")) is not None:
            shown = self._beside(row, "attention_mask", mask, ids) != 0
            ids, loss_mask = ids[shown], loss_mask[shown]
        self._check_all_learned(row, loss_mask)
        ends = int(ids[-1]) if len(ids) and loss_mask[-1] and int(ids[-1]) in self._special else None
        starts = bool(len(ids)) and int(ids[0]) == self._bos
        return Encoded(
            ids=ids.astype(np.int32),
            loss_mask=loss_mask,
            said=len(ids),
            conversation=not loss_mask.all(),
            bos=starts,
            ends=ends,
            found=found,
        )

    def _loss_mask(self, row: Row, ids: Any) -> Any:
        column = self._dataset.columns.labels
        if row.values.get(column) is None:
            return np.ones(len(ids), dtype=np.bool_)
        labels = self._beside(row, column, row.values[column], ids)
        loss_mask = labels != NO_TARGET
        if len(odd := np.flatnonzero(loss_mask & (labels != ids))):
            rule = f"{column}[{odd[0]}] is {labels[odd[0]]} and {self._dataset.columns.ids}[{odd[0]}] is {ids[odd[0]]}"
            way_out = f"Write labels that are the ids themselves, not shifted, or {NO_TARGET} where nothing is learned"
            raise BadData(f"{self._field}.source", row.place, rule, way_out)
        return loss_mask

    def _check_all_learned(self, row: Row, loss_mask: Any) -> None:
        """Pretraining learns every token of its stream."""
        if TASKS[self._task].fine_tunes or loss_mask.all():
            return
        column = self._dataset.columns.labels
        rule = f"{column} leaves tokens out with {NO_TARGET}, and task {self._task} learns every token"
        raise BadData(f"{self._field}.source", row.place, rule, f"Set task to sft, or remove column {column}")

    def _beside(self, row: Row, column: str, value: Any, ids: Any) -> Any:
        """As many numbers as there are ids."""
        numbers = self._integers(row, column, value)
        if len(numbers) != len(ids):
            rule = f"column {column} has {len(numbers)} numbers beside {len(ids)} ids"
            raise BadData(f"{self._field}.source", row.place, rule, "Correct the row, or leave it out")
        return numbers

    def _integers(self, row: Row, column: str, value: Any) -> Any:
        read = from_json(value)
        if isinstance(read, list) and all(type(number) is int and abs(number) < 1 << 31 for number in read):
            return np.array(read, dtype=np.int64)
        rule = f"column {column} is {described(read)}, not a list of token ids"
        raise BadData(f"{self._field}.source", row.place, rule, "Correct the row, or name another column in columns")

    def _check_known(self, row: Row, ids: Any) -> None:
        unknown = np.setdiff1d(ids, self._known)
        if len(unknown):
            rule = f"it holds the id {unknown[0]}, which the tokenizer does not have (its highest is {self._known[-1]})"
            raise BadData(f"{self._field}.source", row.place, rule, "Name the tokenizer that made the ids in tokenizer.source")
