"""Words that recipes of every trainer share: optimizers, schedules, adapters, tasks.

A word that this version does not have cannot be said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod
from typing import Any, get_args

from llmtrain_operator.recipes.counterpart import Counterpart, RecipeKey, Told, cannot, choice, switch
from llmtrain_operator.recipes.table import Devices
from llmtrain_operator.recipes.values import real, whole
from llmtrain_trainer.config.tables.adapters import ADAPTERS
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
    cannot(f"this version has the optimizers {', '.join(sorted(_allowed(Optimizer, 'name')))}"),
)

SCHEDULE: RecipeKey = choice(
    {word: _told(_SCHEDULE, ours) for word, ours in _SCHEDULES.items() if ours in _allowed(Schedule, "name")},
    cannot(f"this version has the schedules {', '.join(sorted(_allowed(Schedule, 'name')))}"),
)

PRECISIONS = _allowed(Training, "precision")


def precision(word: str, note: str = "") -> Told:
    """bf16, fp16 or fp32, where this version computes in it."""
    if word in PRECISIONS:
        return _told("training.precision", word, note=note)
    return Told(outcome=Counterpart.CANNOT, note=f"this version computes in {' or '.join(sorted(PRECISIONS))}")


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


def _deepspeed(value: Any) -> Told:
    """A file of DeepSpeed's settings, by the stage in its name: zero2.json, ds_z3_config.json."""
    stage = re.search(r"z(?:ero)?_?([0-3])", str(value).lower())
    fields = {"parallelism.engine": "deepspeed"} | ({"parallelism.zeroStage": int(stage.group(1))} if stage else {})
    note = "" if stage else "the stage is not in the file's name: set parallelism.zeroStage; further keys go to parallelism.deepspeed"
    return Told(outcome=Counterpart.MAPS if stage else Counterpart.DIFFERS, fields=fields, note=note)


DEEPSPEED: RecipeKey = switch(RecipeKey(outcome=Counterpart.MAPS, into=("parallelism.engine", "parallelism.zeroStage"), read=_deepspeed))


def global_batch(recipe: Mapping[str, Any], devices: Devices, micro: Any, *degrees: Any) -> int:
    """Sequences of an optimizer step over all replicas. degrees: those that split a model or a sequence, None where it is not split."""
    accumulated = whole(recipe.get("gradient_accumulation_steps") or 1)
    split = prod(whole(degree or 1) for degree in degrees)
    return whole(micro) * accumulated * max(1, devices.count // split)


def betas(recipe: Mapping[str, Any], _: object) -> list[float] | None:
    """AdamW's two decays, of which a recipe may give one."""
    given = [recipe.get("adam_beta1"), recipe.get("adam_beta2")]
    if given == [None, None]:
        return None
    return [real(usual if value is None else value) for value, usual in zip(given, (0.9, 0.999), strict=True)]
