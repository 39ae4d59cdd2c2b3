"""Keys of steps that trainers on transformers share: warm-up, schedules' arguments, batch, moments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil, prod
from typing import Any

from llmtrain_operator.recipes.counterpart import OFF, Counterpart, RecipeKey, Settings, Told, is_on, maps, no_effect, reads, switch
from llmtrain_operator.recipes.table import Devices
from llmtrain_operator.recipes.values import count, real, section, share, whole


def _ends(value: Any, recipe: Settings) -> Told:
    """The end of a schedule as transformers' arguments of schedules say it."""
    given = section(value)
    known = {"min_lr_rate", "min_lr"}
    if not given or given.keys() - known:
        raise ValueError("training.schedule has minRatio and decayRatio")
    ratio = given.get("min_lr_rate")
    end = share(ratio) if ratio is not None else real(given["min_lr"]) / real(recipe.get("learning_rate"))
    return Told(outcome=Counterpart.MAPS, fields={"training.schedule.minRatio": end})


SCHEDULE_ARGUMENTS = switch(
    RecipeKey(outcome=Counterpart.MAPS, into=("training.schedule.minRatio",), note="min_lr and min_lr_rate", read=_ends)
)

_FLAT = no_effect("schedule constant has no warm-up, constant_with_warmup has")


def _is_flat(recipe: Settings) -> bool:
    return str(recipe.get("lr_scheduler") or recipe.get("lr_scheduler_type")).lower() == "constant"


def _warmup_steps(value: Any, recipe: Settings) -> Told:
    """Steps, or a share of them below 1 as newer versions of transformers take it. 0 leaves it to the ratio."""
    steps = real(value)
    if _is_flat(recipe):
        return _FLAT.read(value, recipe)
    if steps == 0 and is_on(recipe.get("warmup_ratio")):
        return Told(outcome=Counterpart.NO_EFFECT, note="warmup_ratio counts")
    if 0 < steps < 1:
        return Told(outcome=Counterpart.MAPS, fields={"training.schedule.warmupRatio": steps}, note="a share of the steps")
    return Told(outcome=Counterpart.MAPS, fields={"training.schedule.warmupSteps": whole(value)})


def _warmup_ratio(value: Any, recipe: Settings) -> Told:
    ratio = share(value)
    if _is_flat(recipe):
        return _FLAT.read(value, recipe)
    if is_on(recipe.get("warmup_steps")):
        return Told(outcome=Counterpart.NO_EFFECT, note="warmup_steps counts")
    return Told(outcome=Counterpart.MAPS, fields={"training.schedule.warmupRatio": ratio})


WARMUP: Mapping[str, RecipeKey] = {
    "warmup_steps": RecipeKey(outcome=Counterpart.MAPS, into=("training.schedule.warmupSteps",), read=_warmup_steps),
    "warmup_ratio": RecipeKey(outcome=Counterpart.MAPS, into=("training.schedule.warmupRatio",), read=_warmup_ratio),
}


def _most_steps(value: Any, recipe: Settings) -> Told:
    return Told(outcome=Counterpart.NO_EFFECT, note="epochs count") if real(value) <= 0 else _STEPS.read(value, recipe)


_STEPS = maps("training.maxSteps", count, "instead of epochs")
MAX_STEPS = reads(_STEPS, _most_steps)


def cadence(into: str) -> Callable[[Any, Settings], Told]:
    """Every so many steps, or a share of all of them as transformers takes numbers below 1."""

    def read(value: Any, recipe: Settings) -> Told:
        steps = real(value)
        if steps <= 0:
            return OFF
        if steps >= 1:
            return Told(outcome=Counterpart.MAPS, fields={into: whole(value)})
        most = recipe.get("max_steps")
        if not is_on(most) or real(most) < 1:
            note = f"{into} counts steps, and {value} is a share of them"
            return Told(outcome=Counterpart.DIFFERS, note=note)
        return Told(outcome=Counterpart.MAPS, fields={into: ceil(steps * real(most))}, note="a share of the steps")

    return read


def keep(value: Any) -> int:
    """Checkpoints to keep: a checkpoint is deleted only after a newer one was verified."""
    return max(2, count(value))


def global_batch(recipe: Settings, devices: Devices, micro: Any, *degrees: Any) -> int:
    """Sequences of an optimizer step over all replicas. degrees: those that split a model or a sequence, None where it is not split."""
    accumulated = count(recipe.get("gradient_accumulation_steps") or 1)
    split = prod(count(degree or 1) for degree in degrees)
    return count(micro) * accumulated * max(1, devices.count // split)


def betas(recipe: Settings, _: object) -> list[float] | None:
    """AdamW's two decays, of which a recipe may give one."""
    given = [recipe.get("adam_beta1"), recipe.get("adam_beta2")]
    if given == [None, None]:
        return None
    return [real(usual if value is None else value) for value, usual in zip(given, (0.9, 0.999), strict=True)]


PRETRAINING: Mapping[str, Any] = {"adam_beta1": 0.9, "adam_beta2": 0.999, "weight_decay": 0.0}
"""What Hugging Face's Trainer takes in every task, where llmtrain's defaults of task pretrain are those of published runs."""
