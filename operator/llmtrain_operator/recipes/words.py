"""Words that recipes of every trainer share: optimizers, schedules, adapters, tasks.

A word that this version does not have cannot be said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, get_args

from llmtrain_operator.recipes.counterpart import Counterpart, RecipeKey, Settings, Told, choice, is_on, switch, unknown
from llmtrain_operator.recipes.values import text
from llmtrain_trainer.config.tables.adapters import ADAPTERS, DEFAULT_ADAPTER
from llmtrain_trainer.config.tables.tasks import TASKS
from llmtrain_trainer.config.training import Optimizer, Schedule, Training

_OPTIMIZER = "training.optimizer.name"
_SCHEDULE = "training.schedule.name"
_QUANTISED = "the optimizer's states stay in fp32: more memory (8 bytes per trained parameter), no rounding"

_ADAMW = ("adamw_torch", "adamw_torch_fused", "adamw_hf", "adamw", "adamw_apex_fused", "adamw_torch_xla")
_SMALL_ADAMW = ("adamw_bnb_8bit", "adamw_8bit", "adamw_torch_8bit", "adamw_torch_4bit", "paged_adamw_8bit", "paged_adamw_32bit")
_OTHER_OPTIMIZERS = {"adafactor": "adafactor", "sgd": "sgd", "muon": "muon"}
_SCHEDULES = {
    "cosine": "cosine",
    "cosine_with_min_lr": "cosine",
    "linear": "linear",
    "constant": "constant",
    "constant_with_warmup": "constant",
    "polynomial": "polynomial",
    "cosine_with_restarts": "cosineRestarts",
    "warmup_stable_decay": "wsd",
}


def _allowed(settings: type, name: str) -> frozenset[str]:
    """The words of a field of the manifest."""
    return frozenset(get_args(settings.model_fields[name].annotation))  # type: ignore[attr-defined]


def _told(path: str, value: str, outcome: Counterpart = Counterpart.MAPS, note: str = "") -> Told:
    return Told(outcome=outcome, fields={path: value}, note=note)


OPTIMIZER: RecipeKey = choice(
    {word: _told(_OPTIMIZER, "adamw") for word in _ADAMW}
    | {word: _told(_OPTIMIZER, "adamw", Counterpart.DIFFERS, _QUANTISED) for word in _SMALL_ADAMW}
    | {word: _told(_OPTIMIZER, ours) for word, ours in _OTHER_OPTIMIZERS.items() if ours in _allowed(Optimizer, "name")},
    unknown(f"this version has the optimizers {', '.join(sorted(_allowed(Optimizer, 'name')))}"),
)

SCHEDULE: RecipeKey = choice(
    {word: _told(_SCHEDULE, ours) for word, ours in _SCHEDULES.items() if ours in _allowed(Schedule, "name")},
    unknown(f"this version has the schedules {', '.join(sorted(_allowed(Schedule, 'name')))}"),
)

PRECISIONS = _allowed(Training, "precision")


def precision(word: str, note: str = "") -> Told:
    """bf16, fp16 or fp32, where this version computes in it."""
    if word in PRECISIONS:
        return _told("training.precision", word, note=note)
    note = f"this version computes in {' or '.join(sorted(PRECISIONS))}: training.precision stays bf16"
    return Told(outcome=Counterpart.CANNOT, note=note)


def adapter(word: str, outcome: Counterpart = Counterpart.MAPS, note: str = "") -> Told:
    """An adapter method, where this version trains it."""
    if word in ADAPTERS:
        return _told("peft.method", word, outcome, note)
    return Told(outcome=Counterpart.CANNOT, note=f"this version has the adapters {', '.join(ADAPTERS)}")


def task(word: str, **more: Any) -> Told:
    """A task, where this version trains it. more: further fields, with __ for the dot of a path."""
    if word in TASKS:
        return Told(outcome=Counterpart.MAPS, fields={"task": word} | {path.replace("__", "."): value for path, value in more.items()})
    return Told(outcome=Counterpart.CANNOT, note=f"this version has the tasks {', '.join(TASKS)}")


NO_ADAPTER = Told(outcome=Counterpart.NO_EFFECT, note="without an adapter all weights are trained")


def variant(adapts: bool, switches: Mapping[str, Any]) -> str | None:
    """The adapter method that several keys make together: the first that is on. None where all weights are trained."""
    return next((word for word, value in switches.items() if is_on(value)), DEFAULT_ADAPTER) if adapts else None


def of_variant(word: str, method: Callable[[Settings], str | None]) -> RecipeKey:
    """The key that turns a method on."""
    usual = adapter(word)

    def read(_: Any, recipe: Settings) -> Told:
        chosen = method(recipe)
        if chosen in (None, word):
            return NO_ADAPTER if chosen is None else usual
        return Told(outcome=Counterpart.CANNOT, note=f"peft.method is one of {', '.join(ADAPTERS)}, and {chosen} is on too")

    return switch(RecipeKey(outcome=usual.outcome, into=tuple(usual.fields), note=usual.note, read=read))


def targets(value: Any) -> list[str]:
    """Modules by name. Text with more than names and commas is one regular expression, as peft reads it."""
    if isinstance(value, list):
        return [text(name) for name in value if name not in (None, "")]
    written = text(value).strip()
    if written in ("all", "all-linear"):
        return ["all-linear"]
    if re.fullmatch(r"[\w.,\s-]+", written):
        return [name.strip() for name in written.split(",") if name.strip()]
    return [written]
