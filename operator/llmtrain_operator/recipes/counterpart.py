"""What becomes of one key of a recipe, and the few ways to say it in a table of keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Counterpart(StrEnum):
    """How near a manifest comes to a key."""

    MAPS = "maps"
    """A field says the same."""

    SAME = "no field needed"
    """llmtrain does what the key asks for without a field."""

    DIFFERS = "differs"
    """The nearest that can be said; the note tells the difference."""

    NO_EFFECT = "left out"
    """The key changes nothing of what is trained: logs, kernels, caches."""

    CANNOT = "cannot be said"
    """What would be trained is another thing without this key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One key with a value: what it becomes."""

    outcome: Counterpart
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Values of the manifest by path below spec, such as training.sequenceLength."""

    note: str = ""


Settings = Mapping[str, Any]
"""What a recipe says: its keys as a.b with their values, its trainer's defaults, its lists of datasets. None and absent are the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeKey:
    """One key of a recipe: what it usually becomes, and what a value makes of it beside the other keys."""

    outcome: Counterpart
    into: tuple[str, ...] = ()
    """Paths below spec that it may set."""

    note: str = ""
    read: Callable[[Any, Settings], Told]
    """(value, the whole recipe) -> what it becomes. Raises ValueError if the value is not one that the key has."""


OFF = Told(outcome=Counterpart.NO_EFFECT, note="off")
"""A value that asks for nothing."""


def same(value: Any) -> Any:
    """The value as it is."""
    return value


def maps(path: str, convert: Callable[[Any], Any] = same, note: str = "") -> RecipeKey:
    """A field that says the same."""
    return _field(Counterpart.MAPS, path, convert, note)


def differs(path: str, note: str, convert: Callable[[Any], Any] = same) -> RecipeKey:
    """A field that says nearly the same."""
    return _field(Counterpart.DIFFERS, path, convert, note)


def changed(note: str) -> RecipeKey:
    """No field: llmtrain has its own way, which the note tells."""
    return _fixed(Counterpart.DIFFERS, note)


def by_itself(note: str) -> RecipeKey:
    """No field is needed."""
    return _fixed(Counterpart.SAME, note)


def no_effect(note: str) -> RecipeKey:
    """Nothing that is trained depends on it."""
    return _fixed(Counterpart.NO_EFFECT, note)


def cannot(note: str) -> RecipeKey:
    """No manifest says it; off asks for nothing."""
    return switch(_fixed(Counterpart.CANNOT, note))


def unknown(note: str) -> RecipeKey:
    """What the key asks for is not known, whatever its value."""
    return _fixed(Counterpart.CANNOT, note)


def switch(on: RecipeKey) -> RecipeKey:
    """A key that asks for nothing while it is false, empty or null."""
    return reads(on, lambda value, recipe: on.read(value, recipe) if is_on(value) else OFF)


def reads(usual: RecipeKey, read: Callable[[Any, Settings], Told]) -> RecipeKey:
    """A key that usually becomes the same as another, and is read otherwise."""
    return RecipeKey(outcome=usual.outcome, into=usual.into, note=usual.note, read=read)


def choice(values: Mapping[str, Told], otherwise: RecipeKey) -> RecipeKey:
    """A key whose values are words."""
    into = dict.fromkeys([path for told in values.values() for path in told.fields] + list(otherwise.into))
    best = next(iter(values.values()))
    return RecipeKey(
        outcome=best.outcome,
        into=tuple(into),
        note=best.note,
        read=lambda value, recipe: values.get(str(value).strip().lower()) or otherwise.read(value, recipe),
    )


def is_on(value: Any) -> bool:
    """Whether a value of a recipe asks for something."""
    return value not in (None, False, "", 0, [], {}) and str(value).strip().lower() not in ("", "0", "false", "none", "null", "no", "off")


def _field(outcome: Counterpart, path: str, convert: Callable[[Any], Any], note: str) -> RecipeKey:
    """One field. `convert` gives None where the field is made of several keys."""

    def read(value: Any, _: Settings) -> Told:
        made = convert(value)
        return Told(outcome=outcome, fields={} if made is None else {path: made}, note=note)

    return RecipeKey(outcome=outcome, into=(path,), note=note, read=read)


def _fixed(outcome: Counterpart, note: str) -> RecipeKey:
    told = Told(outcome=outcome, note=note)
    return RecipeKey(outcome=outcome, note=note, read=lambda *_: told)
