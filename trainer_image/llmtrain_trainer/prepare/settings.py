"""Settings of datasets that cannot be prepared, refused before anything is read. The manifest's parser refuses them earlier."""

from __future__ import annotations

from typing import Any

from llmtrain_trainer.config.dataset import Dataset
from llmtrain_trainer.config.tables.data_rules import DATA_RULES
from llmtrain_trainer.config.tables.tasks import TASKS
from llmtrain_trainer.config.trainer import TrainerConfig
from llmtrain_trainer.data.bad_data import BadData


def check_settings(config: TrainerConfig) -> None:
    """Raises BadData for a format that the task does not read, and where a rule on datasets does not hold."""
    accepted = TASKS[config.task].formats
    named = {"dataset": config.dataset, "evaluation.dataset": config.evaluation.dataset if config.evaluation else ()}
    for field, datasets in named.items():
        for number, dataset in enumerate(datasets):
            if dataset.format not in accepted:
                *others, last = accepted
                formats = f"{', '.join(others)} or {last}" if others else last
                raise BadData(
                    f"{field}[{number}].format", dataset.format, f"task {config.task} reads {formats}", "Change the format or the task"
                )
            _check_characters(f"{field}[{number}].clean", dataset)
    spec = config.model_dump(by_alias=True, exclude_none=True)
    for broken in DATA_RULES:
        if not broken.holds(spec):
            raise BadData(broken.field, _value(spec, broken.field), broken.rule, broken.way_out)


def _check_characters(field: str, dataset: Dataset) -> None:
    for name, limit in (("minCharacters", dataset.clean.min_characters), ("maxCharacters", dataset.clean.max_characters)):
        if limit is not None and dataset.format == "tokens":
            raise BadData(f"{field}.{name}", limit, "format tokens has ids and no characters", f"Leave {name} out")


def _value(spec: dict[str, Any], field: str) -> object:
    """The value to show; of a list only whether it streams."""
    found: Any = spec
    for name in field.split("."):
        found = found.get(name, "not set") if isinstance(found, dict) else found
    return "streaming: true" if isinstance(found, (list, tuple)) else found
