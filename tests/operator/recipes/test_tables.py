"""The tables of keys: fields that exist, and public recipes' keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtrain_operator.manifest.crd import object_schema
from llmtrain_operator.recipes.counterpart import Counterpart
from llmtrain_operator.recipes.registry import TRAINERS
from llmtrain_operator.recipes.table import Devices
from llmtrain_operator.recipes.translate import translate

SPEC = object_schema()["properties"]["spec"]


def paths(trainer: str) -> Iterator[tuple[str, str]]:
    known = TRAINERS[trainer]
    for keys, below in ((known.keys, ""), (known.prefixes, ""), (known.entry, "dataset[].")):
        yield from ((name, below + path) for name, key in keys.items() if key.outcome is not Counterpart.CANNOT for path in key.into)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_every_field_that_a_key_sets_is_in_the_schema(trainer: str) -> None:
    missing = [(name, path) for name, path in paths(trainer) if not exists(path)]
    assert not missing


def exists(path: str) -> bool:
    schema: Any = SPEC
    for name in path.split("."):
        schema = schema["properties"].get(name.removesuffix("[]")) if "properties" in schema else None
        if schema is None:
            return False
        schema = schema.get("items", schema) if name.endswith("[]") else schema
    return True


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_key_that_differs_or_cannot_be_said_tells_why(trainer: str) -> None:
    known = TRAINERS[trainer]
    silent = [
        name
        for name, key in {**known.keys, **known.entry, **known.prefixes}.items()
        if key.outcome in (Counterpart.DIFFERS, Counterpart.CANNOT) and not re.search(r"\w+ \w+", key.note) and "offload" not in name
    ]
    assert not silent


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("trainer", TRAINERS)
@given(data=st.data())
def test_whatever_a_recipe_holds_each_key_gets_a_line(trainer: str, data: st.DataObject) -> None:
    known = TRAINERS[trainer]
    names = st.sampled_from(sorted(name for name in known.keys if name not in known.lists)) | st.text(min_size=1, max_size=6)
    recipe = data.draw(st.dictionaries(names, ODD, max_size=4))
    found = translate(known, recipe, name="job", devices=Devices(), beside=None)
    assert found.manifest["metadata"] == {"name": "job"}
    assert len(found.lines) >= len([key for key in recipe if key not in known.lists])
