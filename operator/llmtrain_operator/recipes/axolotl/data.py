"""Axolotl's keys of data: of the whole recipe, and of one entry of `datasets`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from llmtrain_operator.recipes.counterpart import Counterpart, RecipeKey, Told, by_itself, cannot, changed, is_on, maps, no_effect, switch
from llmtrain_operator.recipes.values import place, real
from llmtrain_operator.recipes.words import task
from llmtrain_trainer.config.dataset import Columns
from llmtrain_trainer.config.tables.tasks import Format

FORMATS = frozenset(get_args(Format))

_CONVERSATIONS = ("chat_template", "sharegpt")


def _held_out(value: Any) -> Told:
    share = real(value)
    if share == 0:
        return Told(outcome=Counterpart.SAME, note="nothing is held out")
    if share < 1:
        return Told(outcome=Counterpart.MAPS, fields={"evaluation.split": share})
    note = f"evaluation.split is a share: hold {share:.0f} rows out by evaluation.dataset with split: train[-{share:.0f}:]"
    return Told(outcome=Counterpart.CANNOT, note=note)


def _prompts_too(value: Any) -> Told:
    if not is_on(value):
        return Told(outcome=Counterpart.SAME, note="only answers are learned")
    return Told(outcome=Counterpart.CANNOT, note="only answers are learned; task pretrain with dataset[].template learns every token")


def _rl(value: Any) -> Told:
    word = str(value).lower()
    if word == "ipo":
        return task("dpo", training__dpo__loss="ipo")
    return task(word)


KEYS: Mapping[str, RecipeKey] = {
    "datasets": maps("dataset", lambda _: None),
    "pretraining_dataset": maps("dataset", lambda _: None, "task pretrain, tokenised while training runs"),
    "test_datasets": maps("evaluation.dataset", lambda _: None),
    "val_set_size": RecipeKey(outcome=Counterpart.MAPS, into=("evaluation.split",), read=_held_out),
    "dataset_prepared_path": no_effect("prepared rows are cached by what made them"),
    "dataset_processes": no_effect("how many processes prepare rows changes none of them"),
    "dataset_num_proc": no_effect("how many processes prepare rows changes none of them"),
    "dataset_keep_in_memory": no_effect("rows are read from disk"),
    "skip_prepare_dataset": cannot("it is set for images, which are not trained on"),
    "remove_unused_columns": by_itself("a column with values that nobody reads is told"),
    "shuffle_merged_datasets": by_itself("samples are drawn in an order that the seed gives"),
    "dataset_exact_deduplication": switch(maps("dataset[].clean.duplicates", lambda _: "exact")),
    "min_sample_len": changed("dataset[].clean.minCharacters counts characters, not tokens"),
    "excess_length_strategy": changed("dataset[].truncate says what is cut of long prompts"),
    "train_on_inputs": RecipeKey(outcome=Counterpart.CANNOT, note="only answers are learned", read=_prompts_too),
    "streaming": switch(maps("dataset[].streaming", lambda _: True)),
    "streaming_multipack_buffer_size": no_effect("packing while streaming has a bounded buffer"),
    "default_system_message": maps("dataset[].system", str),
    "rl": RecipeKey(outcome=task("dpo").outcome, into=("task",), note=task("dpo").note, read=_rl),
    "reward_model": switch(
        RecipeKey(outcome=task("reward").outcome, into=("task",), note=task("reward").note, read=lambda _: task("reward"))
    ),
}


def _format(value: Any) -> Told:
    if isinstance(value, Mapping):
        return _own_prompt(value)
    word = str(value).lower()
    family = word.split(".")[0].split(":")[0]
    if family in _CONVERSATIONS:
        return Told(outcome=Counterpart.MAPS, fields={"format": "messages"})
    if family == "alpaca":
        exact = word in ("alpaca", "alpaca:alpaca")
        note = "" if exact else f"{word}: the prompt is written by the chat template, or as Alpaca's"
        return Told(outcome=Counterpart.MAPS if exact else Counterpart.DIFFERS, fields={"format": "alpaca"}, note=note)
    if family in ("completion", "pretrain"):
        return Told(outcome=Counterpart.MAPS, fields={"format": "text"})
    if "preference" in FORMATS and family in ("chatml", "llama3", "zephyr", "user_defined", "bradley_terry"):
        return Told(
            outcome=Counterpart.DIFFERS, fields={"format": "preference"}, note="name the columns if they are not prompt, chosen, rejected"
        )
    return Told(outcome=Counterpart.CANNOT, note=f"{word} is no format of llmtrain: write its columns with dataset[].template")


def _own_prompt(written: Mapping[str, Any]) -> Told:
    """A prompt of the recipe's own as Jinja templates of the columns."""
    columns = {name: str(written.get(f"field_{name}", name)) for name in ("instruction", "input", "output", "system")}

    def jinja(text: str) -> str:
        for name, column in columns.items():
            text = text.replace("{" + name + "}", "{{ " + column + " }}")
        return text

    prompt = jinja(str(written.get("format", written.get("no_input_format", "{instruction}"))))
    fields = {"format": "promptCompletion", "template.prompt": prompt, "template.completion": "{{ " + columns["output"] + " }}"}
    return Told(
        outcome=Counterpart.DIFFERS, fields=fields, note="a template writes prompt and completion; rows without input get the same prompt"
    )


def _answer(name: str) -> RecipeKey:
    """A column of preference data, where this version reads such rows."""
    if name in Columns.model_fields:
        return maps(f"columns.{name}", str)
    return cannot("this version reads no rows of preferences")


ENTRY: Mapping[str, RecipeKey] = {
    "path": maps("source", place),
    "type": RecipeKey(outcome=Counterpart.MAPS, into=("format",), read=_format),
    "split": maps("split", str),
    "name": maps("subset", str),
    "data_files": maps("source", lambda _: None, "a file of its own"),
    "ds_type": by_itself("the files' endings say it"),
    "field": maps("columns.text", str),
    "field_messages": maps("columns.messages", str),
    "message_property_mappings.role": maps("format", lambda _: None, "from and value: format sharegpt"),
    "message_property_mappings.content": maps("format", lambda _: None, "from and value: format sharegpt"),
    "message_field_role": maps("format", lambda _: None, "from and value: format sharegpt"),
    "message_field_content": maps("format", lambda _: None, "from and value: format sharegpt"),
    "roles.user": maps("roles", lambda _: None),
    "roles.assistant": maps("roles", lambda _: None),
    "roles.system": maps("roles", lambda _: None),
    "roles.tool": maps("roles", lambda _: None),
    "roles_to_train": changed("turns of the assistant are learned; a turn's own key trainable says otherwise"),
    "train_on_eos": changed("the end of each answer is learned"),
    "drop_system_message": switch(cannot("words of the system stay in the conversation")),
    "chat_template": changed("one chat template serves all datasets: tokenizer.chatTemplate"),
    "field_thinking": changed("reasoning_content is the key of a turn's reasoning"),
    "template_thinking_key": changed("the template reads reasoning_content"),
    "field_chosen": _answer("chosen"),
    "field_rejected": _answer("rejected"),
    "shards": no_effect("all files are read"),
    "trust_remote_code": changed("code of a repository is never run: its files are read"),
}
