"""Unknown fields: the field that was probably meant, by its full path, also if it belongs to another section."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from llmtrain_operator.manifest.document import Path, dotted
from llmtrain_operator.manifest.meant import fitting
from llmtrain_operator.manifest.peers import bare, field_of, saying, translated
from llmtrain_operator.manifest.schema import Schema, below
from llmtrain_operator.manifest.suggestions import either, shown, wrong

RULE = "there is no such field"
_DASHES = ("\u2010", "\u2011", "\u2012", "\u2013", "\u2014", "\u2212", "\u2022")
"""Characters that word processors put in place of a hyphen."""


def unknown(path: Path, value: Any, schema: Schema) -> tuple[str, str, Path | None]:
    """Rule, way out, and the known field that was probably meant, for a field that does not exist. `schema` is the whole manifest's."""
    *section, name = path
    if str(name)[:1] in _DASHES:
        return RULE, "Write a plain hyphen and a space before an item of a list", None
    here, everywhere = _names(schema, tuple(section))
    plain = bare(str(name))
    if plain in here:
        return RULE, f"Write {dotted(here[plain])}", here[plain]
    places = everywhere.get(plain, [])
    if inside := [place for place in places if len(section) > 1 and place[: len(section)] == tuple(section)]:
        return _elsewhere(inside, value, schema)
    if other := field_of(tuple(section), str(name)):
        return RULE, _moved(other, value, schema), other
    if way_out := saying(str(name)):
        return RULE, way_out, None
    return _elsewhere(places, value, schema) if places else _nearest(tuple(section), plain, here, everywhere)


def _names(schema: Schema, section: Path) -> tuple[dict[str, Path], dict[str, list[Path]]]:
    """Fields by their bare names: those of the section, and those of the whole manifest."""
    properties: Schema = (below(schema, section) or {}).get("properties", {})
    everywhere: dict[str, list[Path]] = {}
    for known in _fields(schema, ()):
        everywhere.setdefault(bare(str(known[-1])), []).append(known)
    return {bare(each): (*section, each) for each in properties if each != "status"}, everywhere


def _elsewhere(places: list[Path], value: Any, schema: Schema) -> tuple[str, str, Path]:
    """Rule and way out for a field that exists in other sections only; [0] is an item of a list."""
    way_out = _moved(places[0], value, schema) if len(places) == 1 else f"Write {either([dotted(place) for place in places[:3]])}"
    return f"{RULE} here", way_out, places[0]


def _moved(target: Path, value: Any, schema: Schema) -> str:
    """The way out for a field of another trainer or section, with its value translated."""
    given, takes = translated(target, value), below(schema, target) or {}
    if given is None:
        return "Leave it out"
    if (fits := fitting(given, takes)) is not None:
        return f"Write {dotted(target)}: {shown(fits)}"
    if isinstance(given, dict) and takes.get("type") not in ("object", "array"):
        return f"Write {dotted(target[:-1])}"
    if takes.get("type") in ("object", "array"):
        return f"Write {dotted(target)}"
    rule, _ = wrong(given, takes, str(target[-1]))
    return f"Write {dotted(target)}; {rule}"


def _nearest(section: Path, plain: str, here: dict[str, Path], everywhere: dict[str, list[Path]]) -> tuple[str, str, Path | None]:
    if near := difflib.get_close_matches(plain, here, n=1, cutoff=0.7):
        return RULE, f"Write {dotted(here[near[0]])}", here[near[0]]
    if near := difflib.get_close_matches(plain, everywhere, n=1, cutoff=0.8):
        found = everywhere[near[0]][0]
        return RULE, f"The nearest is {dotted(found)}", found
    return RULE, f"Remove it; {dotted(section) or 'a manifest'} has {either([str(each[-1]) for each in here.values()])}", None


def _fields(schema: Schema, path: Path) -> Iterator[Path]:
    for name, inner in schema.get("properties", {}).items():
        if name == "status" and not path:
            continue
        yield (*path, name)
        yield from _fields(inner, (*path, name))
        yield from _fields(inner.get("items", {}), (*path, name, 0))
