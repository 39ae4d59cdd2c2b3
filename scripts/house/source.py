"""Source files as values: their functions, classes, docstrings and imports, read with ast and never executed."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PACKAGES = {"llmtrain_operator": "operator/llmtrain_operator", "llmtrain_trainer": "trainer_image/llmtrain_trainer"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One file of a package."""

    name: str
    """Dotted; a package is its __init__.py."""

    is_package: bool
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def lines(self) -> int:
        return self.text.count("\n")

    def functions(self) -> Iterator[Function]:
        return (node for node in ast.walk(self.tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))

    def public_classes(self) -> Iterator[ast.ClassDef]:
        return (node for node in self.tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_"))

    def public_definitions(self) -> Iterator[Function | ast.ClassDef]:
        """Functions and classes of the module and methods of its classes, without those that only repeat a Protocol in one line."""
        for node in self.tree.body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                yield node
                if isinstance(node, ast.ClassDef):
                    yield from (
                        method
                        for method in node.body
                        if isinstance(method, (ast.FunctionDef, ast.AsyncFunctionDef)) and not method.name.startswith("_")
                    )


def modules(root: Path, package: str) -> dict[str, Module]:
    """Every module of one of PACKAGES below the repository `root`, by its dotted name."""
    place = root / PACKAGES[package]
    found = {}
    for path in sorted(place.rglob("*.py")):
        parts = (package, *path.relative_to(place).with_suffix("").parts)
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        found[name] = Module(name=name, is_package=is_package, text=path.read_text())
    return found


def imports(module: Module, known: Mapping[str, Module]) -> set[str]:
    """Modules of `known` that the module imports, also inside of functions, and those it names in strings ("package.module:object")."""
    found = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                found.add(submodule if submodule in known else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value.partition(":")[0])
    return {name for name in found if name in known and name != module.name}
