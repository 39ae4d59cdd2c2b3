"""Datasets of a LLaMA-Factory recipe: names of dataset_info.json as entries of spec.dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmtrain_operator.recipes.counterpart import Counterpart, Told
from llmtrain_operator.recipes.table import Line
from llmtrain_operator.recipes.values import names, path

_ALPACA = {"prompt": "instruction", "query": "input", "response": "output", "history": "history", "system": "system"}
_USUAL = {"role_tag": "from", "content_tag": "value"}
_SPEAKERS = {"user_tag": "user", "assistant_tag": "assistant", "observation_tag": "tool", "system_tag": "system"}


def datasets(recipe: Mapping[str, Any], info: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[Line]]:
    """An entry and a line for each name in `dataset`."""
    found, lines = list[dict[str, Any]](), list[Line]()
    weights = names(recipe["interleave_probs"]) if "interleave_probs" in recipe else []
    for index, name in enumerate(names(recipe.get("dataset") or [])):
        described = info.get(name)
        entry = _described(described, recipe) if isinstance(described, Mapping) else _guessed(name, recipe)
        if index < len(weights):
            entry["weight"] = float(weights[index])
        found.append(entry)
        lines.append(Line(key=f"dataset: {name}", value=entry["source"], told=_told(isinstance(described, Mapping))))
    return found, lines


def _told(described: bool) -> Told:
    if described:
        return Told(outcome=Counterpart.MAPS, note="as dataset_info.json describes it")
    note = "not in the dataset_info.json that was given: guessed to be a file of Alpaca's columns; see --dataset-info"
    return Told(outcome=Counterpart.DIFFERS, note=note)


def _guessed(name: str, recipe: Mapping[str, Any]) -> dict[str, Any]:
    form = "text" if recipe.get("stage") == "pt" else "alpaca"
    return {"source": path(f"{recipe.get('dataset_dir') or 'data'}/{name}.json"), "format": form}


def _described(described: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
    columns = described.get("columns") or {}
    entry: dict[str, Any] = {"source": _source(described, recipe)}
    if recipe.get("stage") == "pt":
        entry |= {"format": "text", "columns.text": columns.get("prompt", "text")}
    elif described.get("formatting", "alpaca") == "sharegpt":
        entry |= _conversations(columns, described.get("tags") or {})
    else:
        entry |= {"format": "alpaca"} | {f"columns.{ours}": columns[theirs] for theirs, ours in _ALPACA.items() if theirs in columns}
    entry |= {ours: described[theirs] for theirs, ours in (("subset", "subset"), ("split", "split")) if theirs in described}
    if "num_samples" in described:
        entry["maxSamples"] = described["num_samples"]
    return _without_defaults(entry)


def _source(described: Mapping[str, Any], recipe: Mapping[str, Any]) -> str:
    if "file_name" in described:
        return path(f"{recipe.get('dataset_dir') or 'data'}/{described['file_name']}")
    return f"hf://{described.get('hf_hub_url') or described.get('ms_hub_url') or described.get('script_url')}"


def _conversations(columns: Mapping[str, Any], tags: Mapping[str, Any]) -> dict[str, Any]:
    """Turns as {from, value} or as {role, content}."""
    usual = {key: tags.get(key, value) for key, value in _USUAL.items()} == _USUAL
    name = "conversations" if usual else "messages"
    entry: dict[str, Any] = {"format": "sharegpt" if usual else "messages", f"columns.{name}": columns.get("messages", "conversations")}
    own = {str(tags[tag]): role for tag, role in _SPEAKERS.items() if tag in tags and tags[tag] != role}
    known = {"human", "gpt", "observation", "system"}
    if usual:
        own = {speaker: role for speaker, role in own.items() if speaker not in known}
    more = {f"columns.{key}": columns[key] for key in ("system", "tools") if key in columns}
    return entry | more | ({"roles": own} if own else {})


def _without_defaults(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Names of columns that are the manifest's own need no field."""
    return {path: value for path, value in entry.items() if path != f"columns.{value}"}
