"""The turns of a row, in each format that is a conversation. Pure; called by rendering."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from llmtrain_trainer.config.dataset import Dataset
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.formats.alpaca import read_alpaca, read_squad
from llmtrain_trainer.data.formats.cells import value_in
from llmtrain_trainer.data.formats.sharegpt import read_sharegpt
from llmtrain_trainer.data.formats.turns import Turn, described, read_turns
from llmtrain_trainer.data.sources.dataset import Row

Turns = tuple[Turn, ...]


def turns_of(field: str, dataset: Dataset, row: Row, *, apart: bool = False) -> Turns:
    """All turns of a row. `apart`: an input stands apart from its instruction. Raises BadData with the row, the rule and the way out."""
    return with_default(dataset, CONVERSATIONS[dataset.format](field, dataset, row, apart))


def turns_in(field: str, dataset: Dataset, row: Row, key: str) -> Turns:
    """The messages that stand in `columns.<key>`."""
    column = getattr(dataset.columns, key)
    way_out = f"Correct the row, or set {field}.columns.{key} to another column"
    return read_turns(field, row, column, way_out, value_in(field, dataset, row, key), dataset.roles)


def _messages(field: str, dataset: Dataset, row: Row, _: bool) -> Turns:
    return turns_in(field, dataset, row, "messages")


def _sharegpt(field: str, dataset: Dataset, row: Row, _: bool) -> Turns:
    turns = read_sharegpt(field, dataset, row, value_in(field, dataset, row, "conversations"))
    return with_system(field, dataset, row, turns)


def _alpaca(field: str, dataset: Dataset, row: Row, apart: bool) -> Turns:
    return with_system(field, dataset, row, read_alpaca(field, dataset, row, apart=apart))


def _squad(field: str, dataset: Dataset, row: Row, _: bool) -> Turns:
    return read_squad(field, dataset, row)


CONVERSATIONS: Mapping[str, Callable[[str, Dataset, Row, bool], Turns]] = {
    "messages": _messages,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "squad": _squad,
}
"""Format -> what reads its rows."""


def with_system(field: str, dataset: Dataset, row: Row, turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """The turns behind what the row's system column says, where it says something. Raises BadData where the first turn says otherwise."""
    column = dataset.columns.system
    said = row.values.get(column)
    if said is None or said == "":
        return turns
    if not isinstance(said, str):
        raise BadData(f"{field}.source", row.place, f"column {column} is {described(said)}, not text", "Correct the row, or leave it out")
    first = turns[0].message if turns else {}
    if first.get("role") != "system":
        return (Turn({"role": "system", "content": said}, learned=False), *turns)
    if first["content"].strip() == said.strip():
        return turns
    rule = f"column {column} and the first turn both hold the system message, and they differ"
    raise BadData(f"{field}.source", row.place, rule, "Keep one of them")


def with_default(dataset: Dataset, turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """The turns behind the dataset's `system`, where they do not begin with words of the system or of a developer."""
    if dataset.system is None or (turns and turns[0].message["role"] in ("system", "developer")):
        return turns
    return (Turn({"role": "system", "content": dataset.system}, learned=False), *turns)
