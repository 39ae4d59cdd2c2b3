"""Rows that are a question and its answer as turns, in Alpaca's form and in SQuAD's. Pure; called by conversations."""

from __future__ import annotations

from typing import Any

from llmtrain_trainer.config.dataset import Dataset
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.formats.cells import text_in, value_in
from llmtrain_trainer.data.formats.turns import Message, Turn, described, from_json
from llmtrain_trainer.data.sources.dataset import Row


def read_alpaca(field: str, dataset: Dataset, row: Row, *, apart: bool) -> tuple[Turn, ...]:
    """The turns of a row. `apart`: its input is a key of its own, as the template alpaca takes it. Raises BadData."""
    instruction, output = (text_in(field, dataset, row, key) for key in ("instruction", "output"))
    question = _question(instruction, _input(field, dataset, row), apart=apart)
    return (*_history(field, dataset, row), Turn(question, learned=False), _answer(output))


def read_squad(field: str, dataset: Dataset, row: Row) -> tuple[Turn, ...]:
    """The context, a blank line and the question ask; the first answer is learned. Raises BadData."""
    context, question = (text_in(field, dataset, row, key) for key in ("context", "question"))
    answers = value_in(field, dataset, row, "answers")
    if not (isinstance(answers, list) and answers and all(isinstance(answer, str) for answer in answers)):
        rule = f"column {dataset.columns.answers} is {described(answers)}, not the answers as SQuAD writes them"
        raise BadData(f"{field}.source", row.place, rule, 'Write it as [{"text": ...}], as {"text": [...]}, or as a list of texts')
    asked = "\n\n".join(text for text in (context, question) if text.strip())
    return (Turn({"role": "user", "content": asked}, learned=False), _answer(answers[0]))


def _question(instruction: str, given: str, *, apart: bool) -> Message:
    if apart:
        return {"role": "user", "content": instruction, **({"input": given} if given.strip() else {})}
    return {"role": "user", "content": "\n".join(text for text in (instruction, given) if text.strip())}


def _answer(text: str) -> Turn:
    return Turn({"role": "assistant", "content": text}, learned=True)


def _input(field: str, dataset: Dataset, row: Row) -> str:
    value = row.values.get(dataset.columns.input)
    if value is None or isinstance(value, str):
        return value or ""
    rule = f"column {dataset.columns.input} is {described(value)}, not text"
    raise BadData(f"{field}.source", row.place, rule, f"Correct the row, or set {field}.columns.input to another column")


def _history(field: str, dataset: Dataset, row: Row) -> tuple[Turn, ...]:
    column = dataset.columns.history
    value: Any = from_json(row.values.get(column))
    if value in (None, "", []):
        return ()
    pairs = value if isinstance(value, list) else [value]
    for number, pair in enumerate(pairs, start=1):
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            rule = f"{column}[{number}] is {described(pair)}, not a question and its answer"
            raise BadData(f"{field}.source", row.place, rule, f'Write {column} as a list of pairs, such as [["Hello?", "Hello."]]')
    return tuple(turn for asked, said in pairs for turn in (Turn({"role": "user", "content": asked}, learned=False), _answer(said)))
