"""What the system says first: the words of a row's system column, or of the dataset. Pure; called where conversations are read."""

from __future__ import annotations

from llmtrain_trainer.config.dataset import Dataset
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.formats.turns import Turn, described
from llmtrain_trainer.data.sources.dataset import Row


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
