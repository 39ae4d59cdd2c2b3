"""Writes the table of model families in docs/models.md from the table that plan and trainer read."""

from __future__ import annotations

from pathlib import Path

from llmtrain_trainer.config.tables.families import FAMILIES, TRAINED
from llmtrain_trainer.config.tables.family import Family
from llmtrain_trainer.config.tables.other_families import OTHER_FAMILIES
from llmtrain_trainer.convert.launch import load_script

ROOT = Path(__file__).parents[1]
WINDOWS = {"never": "", "always": "`sliding_window`", "asked": "`use_sliding_window`"}


def line(name: str, family: Family) -> tuple[str, ...]:
    kernels = "sdpa, flash, eager" if family.sdpa else "flash, eager"
    return f"`{name}`", ", ".join(family.engines), "yes" if family.tensor else "no", kernels, WINDOWS[family.windowed], _more(family)


def _more(family: Family) -> str:
    parts = ["MoE"] if family.mixture else []
    parts += [f"`{key}` refused" for key in family.refused]
    parts += [f"`{family.qk_norm_asked}` refuses `tensor`"] if family.qk_norm_asked and not family.gathered else []
    return ", ".join(parts)


def other_line(name: str) -> tuple[str, ...]:
    found = OTHER_FAMILIES[name]
    shown = ("yes" if each else "refused" for each in (found.packs, found.adapters, found.recomputes))
    return f"`{name}`", "sdpa, eager" if found.sdpa else "eager", *shown


def main() -> None:
    """The rows in the order of the table."""
    tables = load_script(ROOT / "benchmarks" / "page_tables.py")
    head = ("model_type", "engines", "`tensor`", "`attention`", "windows", "")
    tables.fill(ROOT / "docs" / "models.md", "families", head, [line(name, FAMILIES[name]) for name in TRAINED])
    head = ("model_type", "`attention`", "`packing`", "`peft`", "`activationCheckpointing`")
    tables.fill(ROOT / "docs" / "models.md", "others", head, [other_line(name) for name in OTHER_FAMILIES])


if __name__ == "__main__":
    main()
