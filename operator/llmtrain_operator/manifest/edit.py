"""A manifest with some of its fields changed, as a candidate of a search."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel
from pydantic.alias_generators import to_snake

Section = TypeVar("Section", bound=BaseModel)
Changes = Mapping[str, Any]
"""Path in the manifest, such as spec.parallelism.tensor -> value."""


def edited(section: Section, changes: Changes) -> Section:
    """A copy with the changes. The values are not validated."""
    update: dict[str, Any] = {}
    for name in dict.fromkeys(path.partition(".")[0] for path in changes):
        inner = {path.partition(".")[2]: value for path, value in changes.items() if path.partition(".")[0] == name}
        field = _field(name)
        update[field] = inner[""] if "" in inner else edited(getattr(section, field), inner)
    return section.model_copy(update=update)


@cache
def _field(name: str) -> str:
    """The Python name of a field; cached, because a search asks for the same few names thousands of times."""
    return to_snake(name)
