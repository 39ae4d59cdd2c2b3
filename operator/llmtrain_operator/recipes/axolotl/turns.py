"""How the turns of a conversation are written in a dataset of Axolotl."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmtrain_operator.recipes.values import each, section

FORMATS_OF_TURNS: Mapping[tuple[str, str], str] = {("from", "value"): "sharegpt", ("role", "content"): "messages"}
"""Keys of the speaker and of the words -> format."""

_ROLES = ("user", "assistant", "system", "tool")
_KNOWN = {"human": "user", "gpt": "assistant"}
"""Speakers that format sharegpt knows by itself, as Axolotl does."""


def turn_keys(entry: Mapping[str, Any]) -> tuple[str, str]:
    """The keys of a turn that name its speaker and hold its words."""
    mapped = section(entry.get("message_property_mappings"))
    usual = ("from", "value") if str(entry.get("type", "")).startswith("sharegpt") else ("role", "content")
    role = mapped.get("role") or entry.get("message_field_role") or usual[0]
    content = mapped.get("content") or entry.get("message_field_content") or usual[1]
    return str(role), str(content)


def own_roles(entry: Mapping[str, Any]) -> dict[str, str]:
    """Speakers by names of the data's own -> role."""
    written = section(entry.get("roles"))
    return {name: role for role in _ROLES for name in each(written.get(role)) if isinstance(name, str) and name.strip() and name != role}
