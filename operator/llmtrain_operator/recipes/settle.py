"""The fields that the keys of a recipe come to, without those that contradict or that nothing reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from llmtrain_trainer.config.tables.tasks import TASKS, Task

Fields = Mapping[str, Any]
"""Values by path below spec."""

DATASET = "dataset[]."
"""Begins the paths of fields that llmtrain has in each dataset."""

STREAMING = f"{DATASET}streaming"

MOST = "maxSamples"

TALKS = ("messages", "sharegpt", "alpaca")
"""Formats whose rows are conversations."""


def _task(fields: Fields) -> Task:
    return cast("Task", fields.get("task", "sft"))


_LEFT_OUT: tuple[tuple[str, Callable[[Fields], bool], str], ...] = (
    ("training.epochs", lambda found: "training.maxSteps" in found, "training.maxSteps counts"),
    ("peft.", lambda found: "peft.method" not in found, "without an adapter all weights are trained"),
    ("training.schedule.warmupRatio", lambda found: "training.schedule.warmupSteps" in found, "the steps of the warm-up count"),
    ("training.schedule.minRatio", lambda found: found.get("training.schedule.name") == "constant", "a constant rate does not decay"),
    ("evaluation.split", lambda found: "evaluation.dataset" in found, "evaluation.dataset counts"),
    ("evaluation.", lambda found: "evaluation.split" not in found and "evaluation.dataset" not in found, "nothing is evaluated"),
    ("training.packing", lambda found: not TASKS[_task(found)].packs, "rows are filled with text in any case"),
    (
        "mixing",
        lambda found: found.get("mixing") != "concat" and "training.maxSteps" in found,
        "training.maxSteps ends the training: datasets are drawn by weight",
    ),
)
"""Beginning of a path, when it is left out, and why."""


def settled(fields: Fields) -> tuple[dict[str, Any], dict[str, str]]:
    """The fields that are kept, and why each of the others is not."""
    found, reasons = dict(fields), dict[str, str]()
    for beginning, when, why in _LEFT_OUT:
        left_out = [path for path in found if path.startswith(beginning)] if when(found) else []
        for path in left_out:
            found.pop(path)
            reasons[path] = why
    found["task"] = _task(found)
    if "peft.method" in found:
        found["output.export"] = ["adapter"]
    return found, reasons


def in_all_datasets(fields: Fields, entries: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The entries with what the whole recipe says of each, where an entry has a place for it and says nothing itself."""
    for_each = {path.removeprefix(DATASET): value for path, value in fields.items() if path.startswith(DATASET)}
    filled = [{path: value for path, value in for_each.items() if _reads(entry, path)} | entry for entry in entries]
    for entry in filled:
        if MOST in entry and MOST in for_each:
            entry[MOST] = min(entry[MOST], for_each[MOST])
    unread = [path for path in for_each if not any(path in entry for entry in filled)]
    return filled, {f"{DATASET}{path}": "no dataset has conversations" for path in unread}


def _reads(entry: Mapping[str, Any], path: str) -> bool:
    return path != "system" or entry.get("format") in TALKS
