"""The folders of both packages and how they import each other, as an SVG: docs/architecture.svg."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from html import escape
from pathlib import Path
from textwrap import wrap

from scripts.house.figures import children
from scripts.house.source import PACKAGES, Module, imports, modules

WIDTH, BOX, HEIGHT, GAP, ROW = 1100, 300, 74, 50, 118
"""Pixels: of the picture, of a box, between boxes, and from row to row."""

HEAD = 44


@dataclass(frozen=True, kw_only=True)
class Box:
    """A child of a package, placed."""

    name: str
    text: str
    modules: int
    x: float
    y: float


def picture(root: Path) -> str:
    """The SVG of the repository at `root`."""
    parts: list[str] = []
    top = 0.0
    for package in PACKAGES:
        drawn, height = _package(package, modules(root, package), top)
        parts += drawn
        top += height
    style = (
        "text{font-family:ui-sans-serif,system-ui,sans-serif;fill:#1d2733}.n{font-size:14px;font-weight:600}.t{font-size:10.5px;fill:#51606f}"
        ".h{font-size:17px;font-weight:700}rect{fill:#f4f7fa;stroke:#9fb0c0}.e{fill:none;stroke:#7d93a8;marker-end:url(#a)}"
    )
    arrow = (
        '<marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#7d93a8"/></marker>'
    )
    frame = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top:.0f}" width="{WIDTH}" height="{top:.0f}">'
    return "\n".join(
        [
            frame,
            f"<style>{style}</style><defs>{arrow}</defs>",
            '<rect width="100%" height="100%" style="fill:#fff;stroke:none"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


def _package(package: str, known: Mapping[str, Module], top: float) -> tuple[list[str], float]:
    graph = children(package, [(name, other) for name, module in known.items() for other in imports(module, known)])
    folders = sorted({name.removeprefix(f"{package}.").partition(".")[0] for name in known if name != package} - {"__main__"})
    graph = {name: graph.get(name, set()) - {"__main__"} for name in folders}
    boxes: dict[str, Box] = {}
    rows = _rows(graph)
    for number, row in enumerate(rows):
        left = (WIDTH - len(row) * BOX - (len(row) - 1) * GAP) / 2
        for place, name in enumerate(row):
            inside = [each for each in known if each == f"{package}.{name}" or each.startswith(f"{package}.{name}.")]
            boxes[name] = Box(
                name=name,
                text=_first_sentence(known[f"{package}.{name}"]),
                modules=sum(not known[each].is_package for each in inside),
                x=left + place * (BOX + GAP),
                y=top + HEAD + number * ROW,
            )
    arrows = [_arrow(boxes[name], boxes[other]) for name in folders for other in sorted(_needed(graph, name))]
    title = f'<text class="h" x="{GAP}" y="{top + 28:.0f}">{package}</text>'
    return [title, *arrows, *(_box(box) for box in boxes.values())], HEAD + len(rows) * ROW


def _rows(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Every child above all that it imports, and as low as that allows."""
    depth: dict[str, int] = {}
    for name in TopologicalSorter(graph).static_order():
        depth[name] = 1 + max((depth[other] for other in graph[name]), default=-1)
    return [sorted(name for name in depth if depth[name] == level) for level in sorted(set(depth.values()), reverse=True)]


def _needed(graph: Mapping[str, set[str]], name: str) -> set[str]:
    """Imports that no other import of `name` brings along: the rest would only add lines."""
    below = set().union(*(_below(graph, other) for other in graph[name]), set())
    return graph[name] - below


def _below(graph: Mapping[str, set[str]], name: str) -> set[str]:
    return set().union(*({other} | _below(graph, other) for other in graph[name]), set())


def _first_sentence(module: Module) -> str:
    return " ".join((ast.get_docstring(module.tree) or "").split("\n\n")[0].split()).partition(". ")[0].rstrip(".")


def _box(box: Box) -> str:
    lines = wrap(box.text, 48)[:3]
    if len(" ".join(lines)) < len(" ".join(wrap(box.text, 48))):
        lines[-1] = lines[-1][:43] + " ..."
    texts = "".join(
        f'<text class="t" x="{box.x + 10:.0f}" y="{box.y + 36 + 13 * i:.0f}">{escape(line)}</text>' for i, line in enumerate(lines)
    )
    count = "" if box.modules == 1 else f'<tspan class="t" font-weight="400"> {box.modules} modules</tspan>'
    name = f'<text class="n" x="{box.x + 10:.0f}" y="{box.y + 20:.0f}">{box.name}{count}</text>'
    return f'<rect x="{box.x:.0f}" y="{box.y:.0f}" width="{BOX}" height="{HEIGHT}" rx="6"/>{name}{texts}'


def _arrow(source: Box, target: Box) -> str:
    x1, y1, x2, y2 = source.x + BOX / 2, source.y + HEIGHT, target.x + BOX / 2, target.y
    bend = (y2 - y1) / 2
    return f'<path class="e" d="M{x1:.0f} {y1:.0f}C{x1:.0f} {y1 + bend:.0f} {x2:.0f} {y2 - bend:.0f} {x2:.0f} {y2 - 1:.0f}"/>'
