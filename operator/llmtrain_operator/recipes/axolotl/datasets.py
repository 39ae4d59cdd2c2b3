"""One entry of `datasets` in an Axolotl recipe as an entry of spec.dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmtrain_operator.recipes.values import path

_ROLES = ("user", "assistant", "system", "tool")


def adapted(entry: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an entry once keys that depend on each other are read: names of the turns' keys, files, roles."""
    found = dict(fields)
    if files := entry.get("data_files"):
        found["source"] = _file(entry, files)
    if found.get("format") == "messages" and _role_key(entry) == "from":
        found["format"] = "sharegpt"
        if "columns.messages" in found:
            found["columns.conversations"] = found.pop("columns.messages")
    if own := _own_roles(entry):
        found["roles"] = own
    return _without_defaults(found)


def _role_key(entry: Mapping[str, Any]) -> str:
    """The key of a turn that names its speaker."""
    mapped = entry.get("message_property_mappings") or {}
    by_type = "from" if str(entry.get("type", "")).startswith("sharegpt") else "role"
    return str(mapped.get("role") or entry.get("message_field_role") or by_type)


def _own_roles(entry: Mapping[str, Any]) -> dict[str, str]:
    written = entry.get("roles") or {}
    return {str(name): role for role in _ROLES for name in written.get(role, ()) if str(name) != role}


def _file(entry: Mapping[str, Any], files: Any) -> str:
    first = str(files[0] if isinstance(files, list) else files)
    repository = str(entry.get("path", ""))
    if repository in ("json", "csv", "parquet", "text", "arrow") or first.startswith(("/", ".")):
        return path(first)
    return f"hf://{repository}/{first}"


_DEFAULTS = {"columns.conversations": "conversations", "columns.messages": "messages", "columns.text": "text", "split": "train"}


def _without_defaults(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if _DEFAULTS.get(name) != value}
