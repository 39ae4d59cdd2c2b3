"""Datasets of a LLaMA-Factory recipe: names of dataset_info.json as entries of spec.dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmtrain_operator.recipes.counterpart import Counterpart, Settings, Told, is_on
from llmtrain_operator.recipes.llamafactory.described import described
from llmtrain_operator.recipes.table import Beside, Datasets, Line
from llmtrain_operator.recipes.values import each, names, path, real

_GUESSED = "not in the dataset_info.json that was given: guessed to be a file of Alpaca's columns; see --dataset-info"


def datasets(recipe: Settings, beside: Beside) -> Datasets:
    """An entry and a line for each name in `dataset` and `eval_dataset`, with the probabilities of interleaving as weights."""
    found, lines = _named(recipe, beside, "dataset")
    evaluated, more = _named(recipe, beside, "eval_dataset")
    weights = _weights(recipe, len(found))
    trained = [entry | ({"weight": weight} if weight else {}) for entry, weight in zip(found, weights, strict=True)]
    return Datasets(trained=trained, evaluated=evaluated, lines=lines + more)


def _named(recipe: Settings, beside: Beside, key: str) -> tuple[list[dict[str, Any]], list[Line]]:
    """An entry and a line for each name that `dataset` or `eval_dataset` gives."""
    found, lines = list[dict[str, Any]](), list[Line]()
    for name in named_in(recipe.get(key)):
        entry, told = _entry(name, recipe, beside)
        found.append(entry)
        lines.append(Line(key=f"{key}: {name}", value=entry.get("source"), told=told))
    return found, lines


def named_in(value: Any) -> list[str]:
    """Names of datasets; none where a recipe names none."""
    return (
        names(value) if is_on(value) and not isinstance(value, (Mapping, bool)) and all(isinstance(one, str) for one in each(value)) else []
    )


def probabilities(recipe: Settings) -> list[float]:
    """One for each dataset; [] where the recipe has none. Raises ValueError."""
    given = recipe.get("interleave_probs")
    if not is_on(given):
        return []
    found = [real(word) for word in names(given)]
    if len(found) != len(named_in(recipe.get("dataset"))):
        raise ValueError(f"{len(found)} probabilities for {len(named_in(recipe.get('dataset')))} datasets")
    if min(found) <= 0:
        raise ValueError("a probability is above 0: leave the other datasets out")
    return found


def _weights(recipe: Settings, count: int) -> list[float | None]:
    """Weights of the datasets, None where they are equal. What cannot be read stands in the line of the key."""
    try:
        found = probabilities(recipe)
    except ValueError:
        found = []
    return list(found) if found and str(recipe.get("mix_strategy")) != "interleave_once" else [None] * count


def _entry(name: str, recipe: Settings, beside: Beside) -> tuple[dict[str, Any], Told]:
    directory = beside.directory or str(recipe.get("dataset_dir") or "data")
    about = beside.register.get(name)
    if not isinstance(about, Mapping):
        form = "text" if recipe.get("stage") == "pt" else "alpaca"
        return {"source": path(f"{directory}/{name}.json"), "format": form}, Told(outcome=Counterpart.DIFFERS, note=_GUESSED)
    return described(about, directory, text=recipe.get("stage") == "pt")
