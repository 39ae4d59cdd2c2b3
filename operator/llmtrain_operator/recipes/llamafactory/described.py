"""One description of dataset_info.json as an entry of spec.dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmtrain_operator.manifest.suggestions import shown
from llmtrain_operator.recipes.counterpart import Counterpart, Told, is_on
from llmtrain_operator.recipes.values import count, path, place, section
from llmtrain_operator.recipes.values import text as as_text

_ALPACA = {"prompt": "instruction", "query": "input", "response": "output", "history": "history", "system": "system"}
_SPEAKERS = {"user_tag": "user", "assistant_tag": "assistant", "observation_tag": "tool", "system_tag": "system"}
_KNOWN = {"human": "user", "gpt": "assistant", "observation": "tool", "system": "system", "function_call": "assistant"}
"""Speakers that format sharegpt knows by itself."""

_FORMATS = {("from", "value"): ("sharegpt", "conversations"), ("role", "content"): ("messages", "messages")}
_MEDIA = ("images", "videos", "audios")


def described(about: Mapping[str, Any], directory: str, *, text: bool) -> tuple[dict[str, Any], Told]:
    """The entry, and whether it says the same. text: rows are documents, not questions and answers."""
    columns = section(about.get("columns"))
    notes, missing = list[str](), list[str]()
    entry = _placed(about, directory, notes, missing)
    try:
        entry |= _document(columns) if text else _answered(about, columns, missing)
    except ValueError as error:
        missing.append(str(error))
    if is_on(about.get("ranking")):
        missing.append("rows of preferences are not read")
    missing += [f"{name} are not trained on" for name in _MEDIA if is_on(columns.get(name))]
    return _without_defaults(entry), _told(notes, missing)


def _document(columns: Mapping[str, Any]) -> dict[str, Any]:
    return {"format": "text", "columns.text": as_text(columns.get("prompt") or "text")}


def _answered(about: Mapping[str, Any], columns: Mapping[str, Any], missing: list[str]) -> dict[str, Any]:
    """Questions and answers. Raises ValueError for what names no column."""
    if about.get("formatting", "alpaca") in ("sharegpt", "openai"):
        return _conversations(about, columns, missing)
    given = {ours: columns[theirs] for theirs, ours in _ALPACA.items() if is_on(columns.get(theirs))}
    return {"format": "alpaca"} | {f"columns.{ours}": as_text(column) for ours, column in given.items()}


def _told(notes: list[str], missing: list[str]) -> Told:
    if missing:
        return Told(outcome=Counterpart.CANNOT, note="; ".join(missing + notes))
    if notes:
        return Told(outcome=Counterpart.DIFFERS, note="; ".join(notes))
    return Told(outcome=Counterpart.MAPS, note="as dataset_info.json describes it")


def _placed(about: Mapping[str, Any], directory: str, notes: list[str], missing: list[str]) -> dict[str, Any]:
    """Where the rows are, and which of them."""
    entry: dict[str, Any] = {}
    try:
        entry |= {"source": _source(about, directory, notes)}
        entry |= {key: as_text(about[key]) for key in ("subset", "split") if is_on(about.get(key))}
        if is_on(about.get("num_samples")):
            entry["maxSamples"] = count(about["num_samples"])
            notes.append("num_samples draws rows, maxSamples takes the first")
    except ValueError as error:
        missing.append(str(error))
    return entry


def _source(about: Mapping[str, Any], directory: str, notes: list[str]) -> str:
    """A repository of a hub, a file of a store, or a file or directory beside the register."""
    if hub := about.get("hf_hub_url"):
        folder = about.get("folder")
        return f"{place(hub)}/{as_text(folder)}" if is_on(folder) else place(hub)
    if other := about.get("ms_hub_url") or about.get("om_hub_url"):
        notes.append("a repository of another hub: that of the same name on the Hugging Face hub is read")
        return place(other)
    if is_on(about.get("script_url")):
        raise ValueError(f"{shown(about['script_url'], 40)} is a program that makes rows, and none is run: write the rows to a file")
    if file := about.get("cloud_file_name") or about.get("file_name"):
        written = as_text(file)
        return path(written if "://" in written or written.startswith(("/", "~")) else f"{directory.rstrip('/')}/{written}")
    raise ValueError("its description names no file_name and no hub: there are no rows")


def _conversations(about: Mapping[str, Any], columns: Mapping[str, Any], missing: list[str]) -> dict[str, Any]:
    """Turns as {from, value} or as {role, content}, with the data's own names of speakers."""
    tags, is_openai = section(about.get("tags")), about.get("formatting") == "openai"
    usual = ("role", "content") if is_openai else ("from", "value")
    keys = str(tags.get("role_tag") or usual[0]), str(tags.get("content_tag") or usual[1])
    if keys not in _FORMATS:
        missing.append(f"turns of {keys[0]} and {keys[1]} are not read: write them as role and content, or as from and value")
    form, column = _FORMATS.get(keys, _FORMATS[usual])
    entry: dict[str, Any] = {
        "format": form,
        f"columns.{column}": as_text(columns.get("messages") or ("messages" if is_openai else "conversations")),
    }
    entry |= {f"columns.{key}": as_text(columns[key]) for key in ("system", "tools") if is_on(columns.get(key))}
    if form == "messages":
        entry.pop("columns.system", None)
    if tags.get("function_tag", "function_call") not in ("function_call", tags.get("assistant_tag", "gpt")):
        missing.append(f"calls of tools by {shown(tags['function_tag'], 30)} are not read: name the speaker function_call")
    known = _KNOWN if form == "sharegpt" else {role: role for role in _SPEAKERS.values()}
    given = {str(tags[tag]): role for tag, role in _SPEAKERS.items() if is_on(tags.get(tag))}
    own = {speaker: role for speaker, role in given.items() if known.get(speaker) != role}
    return entry | ({"roles": own} if own else {})


def _without_defaults(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Names of columns that are the manifest's own need no field."""
    return {path: value for path, value in entry.items() if path != f"columns.{value}"}
