"""Questions of SQuAD's files, in which they stand below paragraphs of articles. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from llmtrain_trainer.config.dataset import Dataset
from llmtrain_trainer.data.sources.readers import Row
from llmtrain_trainer.data.sources.wanted import IMPOSSIBLE


def questions_of(row: Row, dataset: Dataset) -> Iterator[Row]:
    """A row for each question: context, question and the texts of its answers. `row`: the file's object, an article, or one question.

    A question that has none gets the dataset's `noAnswer`. What has another form stays as it is: the format refuses it with the row's name.
    """
    for number, values in enumerate(_below(row.values), start=1):
        place = row.place if values is row.values else f"{row.place} question {number}"
        answers = _texts(values.get(dataset.columns.answers))
        if answers is None and values.get(IMPOSSIBLE) is True:
            answers = []
        if answers == [] and dataset.no_answer is not None:
            answers = [dataset.no_answer]
        found = {dataset.columns.answers: answers} if answers is not None else {}
        yield replace(row, place=place, values={**values, **found})


def is_unanswered(row: Row, dataset: Dataset) -> bool:
    """Whether a question has no answer on purpose, as in SQuAD 2.0."""
    return dataset.format == "squad" and row.values.get(dataset.columns.answers) == []


def _below(value: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(value, dict):
        return
    if isinstance(value.get("data"), list):
        yield from (each for article in value["data"] for each in _below(article))
    elif isinstance(value.get("paragraphs"), list):
        yield from (each for paragraph in value["paragraphs"] for each in _below(paragraph))
    elif isinstance(value.get("qas"), list):
        above = {key: each for key, each in value.items() if key != "qas"}
        yield from ({**above, **question} for question in value["qas"] if isinstance(question, dict))
    else:
        yield value


def _texts(answers: Any) -> Any:
    """[{text, answer_start}] of the files or {text: [...], answer_start: [...]} of the hub as a list of texts."""
    if isinstance(answers, dict) and ("text" in answers or not answers):
        return answers.get("text")
    if isinstance(answers, list) and all(isinstance(answer, dict) and "text" in answer for answer in answers):
        return [answer["text"] for answer in answers]
    return answers
