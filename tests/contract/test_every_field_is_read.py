"""What the manifest offers is read by something: a field that nothing reads would be accepted and do nothing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from llmtrain_operator.api.job import Toleration
from llmtrain_operator.api.job.spec import Spec

ROOT = Path(__file__).parents[2]
DEFINED = ("operator/llmtrain_operator/api/job", "trainer_image/llmtrain_trainer/config")
"""Where fields are defined: a file there that defines some is no reader of them."""

WHOLE = (Toleration,)
"""Sections that a pod is given as they are."""


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models(argument)


def fields(model: type[BaseModel], path: str) -> Iterator[tuple[str, str]]:
    """(path in the manifest, name in Python) of every field."""
    for name, field in model.model_fields.items():
        yield f"{path}.{field.alias or name}", name
        for section in models(field.annotation):
            if section in WHOLE:
                continue
            yield from fields(section, f"{path}.{field.alias or name}")


def read_names() -> set[str]:
    """Attributes that the code asks for, and keys of `model_dump(include=...)`, outside of the files that define fields."""
    found: set[str] = set()
    for package in ("operator/llmtrain_operator", "trainer_image/llmtrain_trainer"):
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text()
            if str(path.relative_to(ROOT)).startswith(DEFINED) and "(Strict)" in text:
                continue
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Attribute):
                    found.add(node.attr)
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.add(node.value)
    return found


def test_every_field_of_the_manifest_is_read() -> None:
    read = read_names()
    assert [path for path, name in fields(Spec, "spec") if name not in read] == []
