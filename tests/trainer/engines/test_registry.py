"""The registry of the engines: every engine that a manifest can name has its entry, and every name in it can be imported."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args

import pytest

import llmtrain_operator
import llmtrain_trainer
from llmtrain_operator.plan.engines.registry import ENGINES as PLANNED
from llmtrain_trainer.config.tables.engines import ENGINE_FACTS, EngineName
from llmtrain_trainer.engines.registry import ENGINES, READERS

NAMES: tuple[EngineName, ...] = get_args(EngineName)
OWN = tuple(f"engines/{name}/" for name in NAMES)
MAY_NAME_ENGINES = (
    "config/tables/engines.py",
    "config/tables/families.py",
    "config/tables/tasks.py",
    "engines/registry.py",
    "plan/engines/",
    "recipes/",  # the words of other trainers
    *OWN,
)
"""The schema, what trains a model family or a task, the registries, and the engines' own files."""

OTHER_MEANINGS = {
    "plan/model/traits.py": "the activation, which is a trait of the families that this engine may train",
    "manifest/rules/combinations.py": "the field spec.parallelism.deepspeed",
    "resume/rules.py": "the field spec.parallelism.deepspeed",
}


def test_every_engine_is_in_both_registries() -> None:
    assert tuple(ENGINES) == tuple(PLANNED) == tuple(ENGINE_FACTS) == NAMES


@pytest.mark.parametrize("path", sorted({entry.builder for entry in ENGINES.values()} | {*READERS.values()}))
def test_what_the_registry_names_is_there(path: str) -> None:
    module, _, name = path.partition(":")
    place = Path(llmtrain_trainer.__path__[0], *module.split(".")[1:])
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    assert name in file.read_text()


def test_no_other_file_knows_an_engine_by_name() -> None:
    roots = [Path(package.__path__[0]) for package in (llmtrain_operator, llmtrain_trainer)]
    files = {str(path.relative_to(root)): path for root in roots for path in sorted(root.rglob("*.py"))}
    naming = {name for name, path in files.items() if _names(path)}
    assert sorted(name for name in naming if not name.startswith(MAY_NAME_ENGINES)) == sorted(OTHER_MEANINGS)


def _names(path: Path) -> bool:
    constants = (node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant))
    return any(value in NAMES for value in constants if isinstance(value, str))
