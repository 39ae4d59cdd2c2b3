"""Figures of the structure: lengths, folders, cycles, names, docstrings, tests."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from scripts.house.source import PACKAGES, Function, Module, imports, modules

MOST_MODULES = 16
"""In one folder, without its __init__.py."""

MOST_LINES_UNDESCRIBED = 6
"""Lines of a public function whose name and types say enough without a docstring."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of the table."""

    name: str
    value: str
    goal: str = ""
    met: bool = True
    held: bool = True
    """Whether `make check` fails where the goal is not met. Not yet so for goals that the code never met."""


def figures(root: Path) -> list[Figure]:
    """Every figure of the repository at `root`."""
    known = {name: module for package in PACKAGES for name, module in modules(root, package).items()}
    tests = sum(path.read_text().count("\n") for path in (root / "tests").rglob("*.py"))
    return [
        *_lengths(known.values()),
        *_folders(known),
        *_arrows(known),
        _doubled(known.values()),
        _described(known.values()),
        _undescribed(known.values()),
        _ratio(tests, sum(module.lines for module in known.values())),
    ]


def _lengths(known: Iterable[Module]) -> list[Figure]:
    files = sorted(module.lines for module in known if not module.is_package)
    bodies = sorted(_length(node) for module in known for node in module.functions())
    return [
        Figure(name="files", value=str(len(files))),
        Figure(name="lines", value=f"{sum(files):,}"),
        Figure(name="file lines, median / p90 / max", value=_spread(files), goal="median <= 100", met=_at(files, 0.5) <= 100),
        Figure(name="function lines, median / p90 / max", value=_spread(bodies), goal="p90 <= 16", met=_at(bodies, 0.9) <= 16),
    ]


def _length(node: Function) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _spread(sizes: list[int]) -> str:
    return f"{_at(sizes, 0.5)} / {_at(sizes, 0.9)} / {sizes[-1]}"


def _at(sizes: list[int], share: float) -> int:
    return sizes[min(len(sizes) - 1, int(len(sizes) * share))]


def _folders(known: Mapping[str, Module]) -> list[Figure]:
    counts = Counter(name.rpartition(".")[0] for name, module in known.items() if not module.is_package)
    full = [f"{folder} {count}" for folder, count in counts.most_common() if count > MOST_MODULES]
    largest = ", ".join(f"{folder} {count}" for folder, count in counts.most_common(3))
    return [
        Figure(name="folders", value=str(len(counts))),
        Figure(name="largest folders", value=largest, goal=f"none over {MOST_MODULES} modules", met=not full),
    ]


def _arrows(known: Mapping[str, Module]) -> list[Figure]:
    edges = [(name, other) for name, module in known.items() for other in imports(module, known)]
    cycles = [f"{place}: {' > '.join(cycle)}" for place, cycle in _cycles(known, edges)]
    return [
        Figure(name="imports between modules", value=str(len(edges))),
        Figure(name="cycles between folders", value="; ".join(cycles) or "none", goal="none", met=not cycles),
    ]


def _cycles(known: Mapping[str, Module], edges: list[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """For each package: a cycle among its children, where each child stands for all below it."""
    found = []
    for package in sorted(name for name, module in known.items() if module.is_package):
        graph = children(package, edges)
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            found.append((package, list(error.args[1])))
    return found


def children(package: str, edges: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """Which children of a package import which others: a child is a module or a folder with all below it."""
    graph: dict[str, set[str]] = defaultdict(set)
    inside = f"{package}."
    for name, other in edges:
        if name.startswith(inside) and other.startswith(inside):
            source, target = (each.removeprefix(inside).partition(".")[0] for each in (name, other))
            if source != target:
                graph[source].add(target)
    return graph


def _doubled(known: Iterable[Module]) -> Figure:
    names = Counter(node.name for module in known for node in module.public_classes())
    doubled = sorted(name for name, count in names.items() if count > 1)
    return Figure(name="public class names that stand twice", value=", ".join(doubled) or "none", goal="none", met=not doubled)


def _described(known: Iterable[Module]) -> Figure:
    definitions = [node for module in known for node in module.public_definitions()]
    described = sum(ast.get_docstring(node) is not None for node in definitions)
    return Figure(name="public definitions with a docstring", value=f"{100 * described / len(definitions):.0f} %")


def _undescribed(known: Iterable[Module]) -> Figure:
    found = [
        f"{module.name}.{node.name}"
        for module in known
        for node in module.public_definitions()
        if not isinstance(node, ast.ClassDef) and ast.get_docstring(node) is None and _length(node) > MOST_LINES_UNDESCRIBED
    ]
    name = f"public functions over {MOST_LINES_UNDESCRIBED} lines without a docstring"
    return Figure(name=name, value=", ".join(found) or "none", goal="none", met=not found)


def _ratio(tests: int, source: int) -> Figure:
    return Figure(name="lines of tests per line of source", value=f"{tests / source:.2f}", goal=">= 1.0", met=tests >= source, held=False)
