"""The tables of docs/parity.md from the rows of out/parity.json. Called by benchmarks/parity.py --page."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from llmtrain_trainer.convert.launch import load_script

PAGE = Path(__file__).parents[1] / "docs" / "parity.md"
Row = dict[str, Any]
COLUMN = 4
"""Variants that a mesh needs to have a column; others stand in the last one."""


def fill(rows: Sequence[Row], page: Path = PAGE) -> None:
    """Write every table of the page anew."""
    tables = load_script(Path(__file__).with_name("page_tables.py"))
    alone = [row for row in rows if row["against"] == "one process"]
    for engine in ("native", "deepspeed", "megatron", "accelerate"):
        tables.fill(page, engine, *layouts([row for row in alone if row["engine"] == engine]))
    names = load_script(Path(__file__).with_name("family_cases.py")).FAMILY_CASES
    against_trainer = [row for row in rows if row["against"] == "HF Trainer"]
    tables.fill(page, "HF Trainer", *trainer([row for row in against_trainer if row["variant"] not in names]))
    tables.fill(page, "families", *layouts([row for row in against_trainer if row["variant"] in names]))
    tables.fill(page, "all", *summary(rows))


def summary(rows: Sequence[Row]) -> tuple[Sequence[str], list[Sequence[str]]]:
    """How many rows there are, by engine and what they are held against, and how far the worst in fp32 is off."""
    groups = defaultdict[tuple[str, str], list[Row]](list)
    for row in rows:
        groups[row["engine"], row["against"]].append(row)
    head = ("engine", "against", "rows", "beyond tolerance", "largest in fp32: loss", "norm")
    return head, [(*key, str(len(group)), str(sum(not row["ok"] for row in group)), *_worst(group)) for key, group in groups.items()]


def trainer(rows: Sequence[Row]) -> tuple[Sequence[str], list[Sequence[str]]]:
    """One row an engine: its meshes, and the largest differences."""
    found = []
    for engine in dict.fromkeys(row["engine"] for row in rows):
        group = [row for row in rows if row["engine"] == engine]
        found.append((engine, ", ".join(row["mesh"] for row in group), *_worst(group)))
    return ("engine", "meshes", "loss", "norm"), found


def layouts(rows: Sequence[Row]) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Variants down, meshes across; a cell holds the largest difference, of each ZeRO stage where the engine has them."""
    cells = defaultdict[tuple[str, str], list[str]](list)
    for row in rows:
        mesh, _, stage = row["mesh"].partition("-zero")
        cells[row["variant"], mesh].append(f"{stage} {row['max_abs_diff']:.1e}".strip().replace("0.0e+00", "0"))
    variants = list(dict.fromkeys(variant for variant, _ in cells))
    often = Counter(mesh for _, mesh in cells)
    meshes = [mesh for mesh in often if often[mesh] >= COLUMN]
    rest = [mesh for mesh in often if often[mesh] < COLUMN]

    def line(variant: str) -> Sequence[str]:
        others = [f"{mesh} {_joined(cells[variant, mesh])}" for mesh in rest if (variant, mesh) in cells]
        return variant, *(_joined(cells.get((variant, mesh), [])) for mesh in meshes), ", ".join(others)

    return ("variant", *meshes, "other meshes"), [line(variant) for variant in variants]


def _joined(parts: Iterable[str]) -> str:
    return ", ".join(parts)


def _worst(rows: Sequence[Row]) -> tuple[str, str]:
    exact = [row for row in rows if row["reason"] is None]
    return f"{max(row['max_abs_diff'] for row in exact):.1e}", f"{max(row['norm_max_rel_diff'] for row in exact):.1e}"
