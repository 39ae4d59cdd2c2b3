"""Whatever stands in a recipe, an entry of its datasets or a register of datasets: each key gets a line, and a manifest can be written."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml

from llmtrain_operator.cli.importing import table
from llmtrain_operator.recipes.counterpart import Counterpart
from llmtrain_operator.recipes.registry import TRAINERS
from llmtrain_operator.recipes.table import Beside, Devices
from llmtrain_operator.recipes.translate import Translation, told, translate

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2.5, math.inf, math.nan, 10**400, "", "x", "auto", "true", "0.1", "a,b", "a.*b{1,2}", "a\nb: c", "{"),
    *([], ["a"], [None], [{}], [["x"]], [3], {}, {"a": 1}, {"a": {"b": None}}, {"role": 3}, {"format": "{nothing}"}, {1: 2}),
)
"""A value of every type of YAML, and some that look like another."""

FAST = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
RECIPES: dict[str, dict[str, Any]] = {
    "axolotl": {"base_model": "a/b", "learning_rate": 1e-4, "adapter": "lora", "datasets": [{"path": "a/b", "type": "alpaca"}]},
    "llamafactory": {"model_name_or_path": "a/b", "dataset": "one,two"},
}
DESCRIBED = (
    "file_name",
    "hf_hub_url",
    "ms_hub_url",
    "script_url",
    "cloud_file_name",
    "formatting",
    "columns",
    "tags",
    "split",
    "num_samples",
)
INSIDE = ("columns.prompt", "columns.messages", "columns.system", "tags.role_tag", "tags.user_tag", "tags.function_tag", "columns.images")


def imported(trainer: str, recipe: dict[str, Any], register: dict[str, Any] | None = None) -> Translation:
    return translate(TRAINERS[trainer], recipe, name="job", devices=Devices(), beside=Beside(register=register or {}))


@pytest.mark.parametrize("trainer", TRAINERS)
def test_every_key_takes_a_value_of_every_type(trainer: str) -> None:
    """Beside the other keys of a usual recipe: what it becomes is told, never raised."""
    known, beside = TRAINERS[trainer], RECIPES[trainer]
    for key in [*known.keys, *(f"{prefix}x" for prefix in known.prefixes), "unheard_of"]:
        for value in ODD:
            assert told(known.key(key), key, value, beside).told.outcome in Counterpart


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("value", ODD, ids=[f"{place}-{type(value).__name__}" for place, value in enumerate(ODD)])
def test_all_keys_together_take_a_value_of_every_type(trainer: str, value: Any) -> None:
    known = TRAINERS[trainer]
    found = imported(trainer, RECIPES[trainer] | dict.fromkeys([*known.keys, *known.lists, "unheard_of"], value))
    assert len(table(found.lines)) == len(found.lines)
    assert isinstance(yaml.dump(found.manifest, Dumper=FAST), str)


def test_every_key_of_a_dataset_takes_a_value_of_every_type() -> None:
    for key in [*TRAINERS["axolotl"].entry, "roles.x", "unheard_of"]:
        outer, _, inner = key.partition(".")
        entries = [{"path": "a/b", outer: {inner: value} if inner else value} for value in ODD]
        assert imported("axolotl", RECIPES["axolotl"] | {"datasets": entries, "test_datasets": entries}).manifest["spec"]["dataset"]


@pytest.mark.parametrize("stage", ["sft", "pt"])
@pytest.mark.parametrize("formatting", ["alpaca", "sharegpt", "openai"])
def test_every_key_of_a_register_takes_a_value_of_every_type(formatting: str, stage: str) -> None:
    register = {}
    for key in (*DESCRIBED, *INSIDE):
        outer, _, inner = key.partition(".")
        for number, value in enumerate(ODD):
            register[f"{key}-{number}"] = {"file_name": "a.json", "formatting": formatting, outer: {inner: value} if inner else value}
    found = imported("llamafactory", {"dataset": list(register), "stage": stage}, register)
    assert len(found.manifest["spec"]["dataset"]) == len(register)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_the_order_of_a_recipes_keys_decides_nothing(trainer: str) -> None:
    """Every key that sets a field is on, so that several set the same."""
    recipe = RECIPES[trainer] | {
        key: True for key in TRAINERS[trainer].keys if key not in RECIPES[trainer] and TRAINERS[trainer].keys[key].into
    }
    one, other = (imported(trainer, dict(items)).manifest for items in (recipe.items(), reversed(recipe.items())))
    assert yaml.safe_dump(one) == yaml.safe_dump(other)
