"""Axolotl's keys of data that hold for a whole recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmtrain_operator.recipes.counterpart import (
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
)
from llmtrain_operator.recipes.held_out import held_out
from llmtrain_operator.recipes.values import each, text
from llmtrain_operator.recipes.words import task


def _held_out(value: Any, recipe: Settings) -> Told:
    return held_out(value, 0 if recipe.get("pretraining_dataset") else len(each(recipe.get("datasets"))))


def _prompts_too(value: Any, _: Settings) -> Told:
    if not is_on(value):
        return Told(outcome=Counterpart.SAME, note="only answers are learned")
    return Told(outcome=Counterpart.CANNOT, note="only answers are learned; task pretrain with dataset[].template learns every token")


def _rl(value: Any, _: Settings) -> Told:
    word = text(value).lower()
    if word == "ipo":
        return task("dpo", training__dpo__loss="ipo")
    return task(word)


_SHUFFLED = "samples are drawn in an order that the seed gives"


def _shuffled(value: Any, _: Settings) -> Told:
    if is_on(value):
        return Told(outcome=Counterpart.SAME, note=_SHUFFLED)
    return Told(outcome=Counterpart.CANNOT, note=f"{_SHUFFLED}; spec.curriculum changes weights over steps")


def _too_long(value: Any, _: Settings) -> Told:
    """What becomes of rows that are longer than sequence_len."""
    note = "a prompt that is too long is cut at its beginning and told; dataset[].truncate.prompt: drop leaves such a row out"
    if str(value) == "drop":
        return Told(outcome=Counterpart.DIFFERS, note=note)
    return Told(outcome=Counterpart.DIFFERS, note=f"{text(value)}: {note}")


KEYS: Mapping[str, RecipeKey] = {
    "datasets": maps("dataset", lambda _: None, "concatenated: mixing: concat"),
    "pretraining_dataset": maps("dataset", lambda _: None, "task pretrain, tokenised while training runs"),
    "test_datasets": maps("evaluation.dataset", lambda _: None),
    "val_set_size": RecipeKey(outcome=Counterpart.MAPS, into=("evaluation.split",), read=_held_out),
    "dataset_prepared_path": by_itself("prepared rows are cached by what made them"),
    "dataset_processes": by_itself("rows are tokenised on every core"),
    "dataset_num_proc": by_itself("rows are tokenised on every core"),
    "dataset_keep_in_memory": no_effect("rows are read from disk"),
    "skip_prepare_dataset": cannot("it is set for images, which are not trained on"),
    "remove_unused_columns": by_itself("a column with values that nobody reads is told"),
    "shuffle_merged_datasets": RecipeKey(outcome=Counterpart.SAME, note=_SHUFFLED, read=_shuffled),
    "dataset_exact_deduplication": switch(maps("dataset[].clean.duplicates", lambda _: "exact")),
    "min_sample_len": changed("dataset[].clean.minCharacters counts characters, not tokens"),
    "excess_length_strategy": RecipeKey(
        outcome=Counterpart.DIFFERS, note="dataset[].truncate says what is cut of long prompts", read=_too_long
    ),
    "train_on_inputs": RecipeKey(outcome=Counterpart.CANNOT, note="only answers are learned", read=_prompts_too),
    "streaming": switch(maps("dataset[].streaming", lambda _: True)),
    "streaming_multipack_buffer_size": no_effect("packing while streaming has a bounded buffer"),
    "default_system_message": switch(maps("dataset[].system", text)),
    "rl": switch(RecipeKey(outcome=task("dpo").outcome, into=("task",), note=task("dpo").note, read=_rl)),
    "reward_model": switch(
        RecipeKey(outcome=task("reward").outcome, into=("task",), note=task("reward").note, read=lambda *_: task("reward"))
    ),
}
