"""Axolotl's keys of one entry of `datasets`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

from llmtrain_operator.manifest.suggestions import shown
from llmtrain_operator.recipes.axolotl.prompt import ALPACA, own_prompt
from llmtrain_operator.recipes.axolotl.turns import FORMATS_OF_TURNS, turn_keys
from llmtrain_operator.recipes.counterpart import (
    OFF,
    Counterpart,
    RecipeKey,
    Settings,
    Told,
    by_itself,
    cannot,
    changed,
    is_on,
    maps,
    no_effect,
    switch,
    unknown,
)
from llmtrain_operator.recipes.values import count, each, section, text, whole
from llmtrain_trainer.config.dataset import Columns
from llmtrain_trainer.config.tables.tasks import Format

FORMATS = frozenset(get_args(Format))

ENTRY_OF = "datasets[]"
"""Key of the entry itself in what its keys are read beside."""

ALPACA_TYPES = ("alpaca", "alpaca:alpaca", "alpaca:instruct")
"""Types that write Alpaca's own prompt."""

_CONVERSATIONS = ("chat_template", "sharegpt")


def _format(value: Any, recipe: Settings) -> Told:
    if isinstance(value, Mapping):
        return own_prompt(value)
    word = text(value).lower()
    family = re.split(r"[.:]", word)[0]
    if family in _CONVERSATIONS:
        return Told(outcome=Counterpart.MAPS, fields={"format": "messages"})
    if word in ALPACA_TYPES:
        return _alpaca(recipe)
    if family.startswith("alpaca"):
        note = f"{word}: the chat template writes the prompt, or Alpaca's own where there is none"
        return Told(outcome=Counterpart.DIFFERS, fields={"format": "alpaca"}, note=note)
    if family in ("completion", "pretrain"):
        return Told(outcome=Counterpart.MAPS, fields={"format": "text"})
    if "preference" in FORMATS and family in ("chatml", "llama3", "zephyr", "user_defined", "bradley_terry"):
        return Told(
            outcome=Counterpart.DIFFERS, fields={"format": "preference"}, note="name the columns if they are not prompt, chosen, rejected"
        )
    return Told(outcome=Counterpart.CANNOT, note=f"{shown(word, 40)} is no format of llmtrain: write its columns with dataset[].template")


def _alpaca(recipe: Settings) -> Told:
    """Alpaca's own prompt: as the chat template of all rows, or of these alone."""
    if has_alpaca_alone(recipe):
        return Told(outcome=Counterpart.MAPS, fields={"format": "alpaca"}, note="in Alpaca's own prompt")
    return Told(outcome=Counterpart.MAPS, fields=ALPACA, note="in Alpaca's own prompt, which no chat template changes")


def has_alpaca_alone(recipe: Settings) -> bool:
    """Whether every dataset is in Alpaca's prompt, so that it may be the chat template."""
    types = [section(entry).get("type") for entry in each(recipe.get("datasets"))]
    chat = is_on(recipe.get("chat_template")) or is_on(recipe.get("chat_template_jinja"))
    return bool(types) and not chat and all(str(kind).lower() in ALPACA_TYPES for kind in types)


def _turn_keys(_: Any, recipe: Settings) -> Told:
    """The keys of a turn that name its speaker and hold its words."""
    found = turn_keys(section(recipe.get(ENTRY_OF)))
    if found in FORMATS_OF_TURNS:
        return Told(outcome=Counterpart.MAPS, fields={"format": FORMATS_OF_TURNS[found]})
    note = f"turns of {found[0]} and {found[1]} are not read: write them as role and content, or as from and value"
    return Told(outcome=Counterpart.CANNOT, note=note)


def _speakers(value: Any, _: Settings) -> Told:
    if not all(isinstance(name, str) for name in each(value)):
        raise ValueError("a list of names is expected")
    return Told(outcome=Counterpart.MAPS, note="roles")


def _shard(value: Any, recipe: Settings) -> Told:
    """One of several shards is trained on: a slice of the same size."""
    parts, index = count(value), whole(section(recipe.get(ENTRY_OF)).get("shards_idx") or 0)
    if parts == 1:
        return OFF
    if 100 % parts or not 0 <= index < parts or "[" in str(section(recipe.get(ENTRY_OF)).get("split")):
        raise ValueError("one shard is trained on: say it as a slice of dataset[].split, such as train[:3%]")
    split = section(recipe.get(ENTRY_OF)).get("split") or "train"
    slice_ = f"{split}[{index * 100 // parts}%:{(index + 1) * 100 // parts}%]"
    return Told(
        outcome=Counterpart.DIFFERS, fields={"split": slice_}, note="one shard is trained on: a slice of the same size, not drawn at random"
    )


def _answer(name: str) -> RecipeKey:
    """A column of preference data, where this version reads such rows."""
    if name in Columns.model_fields:
        return maps(f"columns.{name}", str)
    return cannot("this version reads no rows of preferences")


_TURNS = RecipeKey(outcome=Counterpart.MAPS, into=("format",), note="from and value: sharegpt; role and content: messages", read=_turn_keys)
_SPEAKERS = RecipeKey(outcome=Counterpart.MAPS, into=("roles",), read=_speakers)
_TRAINED = "a turn's own key weight, train or trainable says whether it is learned"
_ANSWERS = "turns of the assistant are learned; a turn's own key trainable says otherwise"


def _trained(value: Any, _: Settings) -> Told:
    if text(value) in ("train", "training", "trainable", "weight", "learn"):
        return Told(outcome=Counterpart.SAME, note=_TRAINED)
    return Told(outcome=Counterpart.CANNOT, note=_TRAINED)


def _trained_roles(value: Any, _: Settings) -> Told:
    if {str(name) for name in each(value)} <= {"assistant", "gpt"}:
        return Told(outcome=Counterpart.SAME, note="turns of the assistant are learned")
    return Told(outcome=Counterpart.CANNOT, note=_ANSWERS)


def _ends(value: Any, _: Settings) -> Told:
    if str(value) == "turn":
        return Told(outcome=Counterpart.SAME, note="the end of each answer is learned")
    return Told(outcome=Counterpart.DIFFERS, note=f"{shown(value, 20)}: the end of each answer is learned, and no other")


ENTRY: Mapping[str, RecipeKey] = {
    "path": maps("source", lambda _: None),
    "type": RecipeKey(outcome=Counterpart.MAPS, into=("format",), read=_format),
    "split": maps("split", lambda _: None),
    "name": maps("subset", lambda _: None),
    "data_files": maps("source", lambda _: None, "each file is an entry"),
    "ds_type": by_itself("the files' endings say it"),
    "revision": cannot("data is read at the newest revision: download the other one and give its path"),
    "field": maps("columns.text", text),
    "text_column": maps("columns.text", text),
    "field_messages": maps("columns.messages", text),
    "field_tools": maps("columns.tools", text),
    "message_property_mappings": unknown("role and content are expected below it"),
    "message_property_mappings.role": _TURNS,
    "message_property_mappings.content": _TURNS,
    "message_field_role": _TURNS,
    "message_field_content": _TURNS,
    "message_field_training": RecipeKey(outcome=Counterpart.DIFFERS, note=_TRAINED, read=_trained),
    "message_field_training_detail": cannot("a turn is learned whole or not at all"),
    "roles": unknown("user, assistant, system and tool are expected below it"),
    "roles.user": _SPEAKERS,
    "roles.assistant": _SPEAKERS,
    "roles.system": _SPEAKERS,
    "roles.tool": _SPEAKERS,
    "roles_to_train": RecipeKey(outcome=Counterpart.DIFFERS, note=_ANSWERS, read=_trained_roles),
    "train_on_eos": RecipeKey(outcome=Counterpart.DIFFERS, note="the end of each answer is learned", read=_ends),
    "train_on_eot": RecipeKey(outcome=Counterpart.DIFFERS, note="the end of each answer is learned", read=_ends),
    "drop_system_message": switch(cannot("words of the system stay in the conversation")),
    "chat_template": changed("one chat template serves all datasets: tokenizer.chatTemplate"),
    "chat_template_jinja": changed("one chat template serves all datasets: tokenizer.chatTemplate"),
    "field_thinking": changed("reasoning_content is the key of a turn's reasoning"),
    "template_thinking_key": changed("the template reads reasoning_content"),
    "split_thinking": switch(changed("the chat template decides what becomes of reasoning")),
    "field_chosen": _answer("chosen"),
    "field_rejected": _answer("rejected"),
    "shards": RecipeKey(
        outcome=Counterpart.DIFFERS, into=("split",), note="one shard is trained on: a slice of the same size", read=_shard
    ),
    "shards_idx": no_effect("which of the shards"),
    "preprocess_shards": no_effect("how rows are prepared changes none of them"),
    "trust_remote_code": switch(changed("code of a repository is never run: its files are read")),
}
