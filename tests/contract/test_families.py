"""A model family is one row that operator and trainer both read."""

from __future__ import annotations

import ast
from pathlib import Path

import llmtrain_operator
import llmtrain_trainer
from llmtrain_trainer.config.tables.families import TRAINED

TEMPLATES = "config/tables/chat_templates.py"
"""Names of chat templates, some of which are those of families."""

RECIPES = "recipes/"
"""Words of other trainers, some of which are those of families."""

MAY_NAME_FAMILIES = sorted(["config/tables/families.py", "plan/model/config_values.py", TEMPLATES])


def test_no_other_file_knows_a_trained_family_by_name() -> None:
    roots = [Path(package.__path__[0]) for package in (llmtrain_operator, llmtrain_trainer)]
    files = {str(path.relative_to(root)): path for root in roots for path in sorted(root.rglob("*.py"))}
    files = {name: path for name, path in files.items() if not name.startswith(RECIPES)}
    assert sorted(name for name, path in files.items() if _names(path)) == MAY_NAME_FAMILIES


def _names(path: Path) -> bool:
    return any(isinstance(node, ast.Constant) and node.value in TRAINED for node in ast.walk(ast.parse(path.read_text())))
