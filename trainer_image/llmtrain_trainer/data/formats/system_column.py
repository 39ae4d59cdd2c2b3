"""What a row's system column says, as the first turn. Pure; called by conversations."""

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
    rule = f"column {column} and the first turn are both the system's words, and differ"
    raise BadData(f"{field}.source", row.place, rule, "Keep one of them")
