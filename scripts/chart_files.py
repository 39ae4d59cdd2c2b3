"""Keeps what the chart repeats in step with its source: `python scripts/chart_files.py` writes, `--check` compares. Run by make.

The CRD of crds/ is copied into the chart, and the comments of values.yaml become the table of docs/operations/install.md.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
CHART = ROOT / "charts" / "llmtrain"
PAGE = ROOT / "docs" / "operations" / "install.md"
BEGIN, END = "<!-- values: begin -->\n", "<!-- values: end -->\n"


def main() -> int:
    """0 when everything is in step afterwards."""
    outdated = [path for path, text in wanted().items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in outdated:
            print(f"{path.relative_to(ROOT)} is out of step: run make generate")
        return 1 if outdated else 0
    for path in outdated:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted()[path])
    return 0


def wanted() -> dict[Path, str]:
    """What should stand in each file."""
    crds = {CHART / "files" / "crds" / crd.name: crd.read_text() for crd in sorted((ROOT / "crds").glob("*.yaml"))}
    page = PAGE.read_text()
    before, after = page.index(BEGIN) + len(BEGIN), page.index(END)
    return {**crds, PAGE: page[:before] + table((CHART / "values.yaml").read_text()) + page[after:]}


def table(values: str) -> str:
    """A row a value: its path, its default, the comment above it."""
    rows = ["| value | default | meaning |", "|---|---|---|"]
    rows += [f"| `{path}` | `{json.dumps(default)}` | {text} |" for path, default, text in described(values)]
    return "\n".join(rows) + "\n"


def described(values: str) -> list[tuple[str, object, str]]:
    """(path, default, comment) of every value that has a comment, in the order of the file."""
    found: list[tuple[str, object, str]] = []
    sections: list[str] = []
    comment: list[str] = []
    for line in values.splitlines():
        if text := re.fullmatch(r"\s*# ?(.*)", line):
            comment.append(text[1])
        elif key := re.match(r"( *)([A-Za-z]+):", line):
            sections = [*sections[: len(key[1]) // 2], key[2]]
            if comment:
                found.append((".".join(sections), _at(yaml.safe_load(values), sections), " ".join(comment)))
            comment = []
        else:
            comment = []
    return found


def _at(values: object, path: list[str]) -> object:
    for name in path:
        assert isinstance(values, dict)
        values = values[name]
    return values


if __name__ == "__main__":
    sys.exit(main())
