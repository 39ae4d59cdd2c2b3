"""Datasets that cannot be prepared are refused before anything is read, by the same rules as the manifest's."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))

from small_job import config_of

from llmtrain_trainer.config.tables.tasks import TASKS
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.prepare.settings import check_settings

TEXT: dict[str, Any] = {"source": "file:///t.jsonl"}
STREAM = TEXT | {"streaming": True}


def refusal(datasets: list[dict[str, Any]], **changes: Any) -> BadData:
    with pytest.raises(BadData) as raised:
        check_settings(config_of(datasets, **changes))
    return raised.value


@pytest.mark.parametrize("task", list(TASKS))
def test_each_task_takes_its_formats_and_names_them_for_others(task: str) -> None:
    accepted = TASKS[task].formats  # type: ignore[index]
    every = {name for traits in TASKS.values() for name in traits.formats}
    for name in sorted(every):
        config = config_of([TEXT | {"format": name}], task=task)
        if name in accepted:
            check_settings(config)
            continue
        with pytest.raises(BadData) as raised:
            check_settings(config)
        error = raised.value
        assert (error.field, error.value, error.way_out) == ("dataset[0].format", name, "Change the format or the task")
        assert error.rule.startswith(f"task {task} reads ") and all(each in error.rule for each in accepted)


def test_the_dataset_at_fault_is_named_by_its_number_also_of_an_evaluation() -> None:
    odd = TEXT | {"format": "messages"}
    assert refusal([TEXT, odd]).field == "dataset[1].format"
    assert refusal([TEXT], evaluation={"dataset": [TEXT, TEXT, odd]}).field == "evaluation.dataset[2].format"


@pytest.mark.parametrize("name", ["minCharacters", "maxCharacters"])
def test_rows_of_token_ids_have_no_characters_to_count(name: str) -> None:
    error = refusal([TEXT | {"format": "tokens", "clean": {name: 5}}])
    assert (error.field, error.value, error.way_out) == (f"dataset[0].clean.{name}", "5", f"Leave {name} out")
    check_settings(config_of([TEXT | {"clean": {name: 5}}]))


@pytest.mark.parametrize(
    ("datasets", "changes", "field", "value"),
    [
        ([STREAM], {"training": {"maxSteps": None, "epochs": 1}}, "training.maxSteps", "not set"),
        ([STREAM], {"evaluation": {"split": 0.1}}, "evaluation.split", "0.1"),
        ([TEXT, STREAM], {"evaluation": {"split": 0.1}}, "evaluation.split", "0.1"),
        ([TEXT], {"evaluation": {"dataset": [TEXT, STREAM]}}, "evaluation.dataset", "streaming: true"),
    ],
    ids=["no end", "held out", "held out of one", "validation"],
)
def test_a_stream_cannot_do_what_needs_its_end(datasets: list[dict[str, Any]], changes: dict[str, Any], field: str, value: str) -> None:
    error = refusal(datasets, **changes)
    assert (error.field, error.value) == (field, value)


@pytest.mark.parametrize(
    ("datasets", "changes"),
    [
        ([STREAM], {}),
        ([STREAM], {"evaluation": {"dataset": [TEXT]}}),
        ([TEXT], {"evaluation": {"split": 0.1}}),
        ([TEXT], {"training": {"maxSteps": None, "epochs": 2}}),
    ],
)
def test_each_way_out_works(datasets: list[dict[str, Any]], changes: dict[str, Any]) -> None:
    check_settings(config_of(datasets, **changes))
