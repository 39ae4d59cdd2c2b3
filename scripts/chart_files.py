"""Keeps what the chart repeats in step with its source: `python scripts/chart_files.py` writes, `--check` compares. Run by make.

The CRD of crds/ is copied into the chart, and the comments of values.yaml become tables of docs/operations/install.md and monitoring.md.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
CHART = ROOT / "charts" / "llmtrain"
PAGE = ROOT / "docs" / "operations" / "install.md"
MONITORING = ROOT / "docs" / "operations" / "monitoring.md"
ALERTS = "metrics.alerts."

Row = tuple[str, object, str]
"""Path of a value, its default, its comment."""


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
    found = described((CHART / "values.yaml").read_text())
    values = [row for row in found if not row[0].startswith(ALERTS)]
    alerts = [(path.removeprefix(ALERTS), default, text) for path, default, text in found if path.startswith(ALERTS)]
    return {**crds, PAGE: filled(PAGE, "values", table(values)), MONITORING: filled(MONITORING, "alerts", alert_table(alerts))}


def filled(page: Path, name: str, text: str) -> str:
    """The page with this text between its marks."""
    begin, end, whole = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n", page.read_text()
    return whole[: whole.index(begin) + len(begin)] + text + whole[whole.index(end) :]


def table(rows: Iterable[Row]) -> str:
    """A line per value: its path, its default, the comment above it."""
    lines = [f"| `{path}` | `{json.dumps(default)}` | {text} |" for path, default, text in rows]
    return "\n".join(["| value | default | meaning |", "|---|---|---|", *lines]) + "\n"


def alert_table(rows: Iterable[Row]) -> str:
    """A line per alert, with a link to its page."""
    lines = [
        f"| {_link(name)} | {_of(given, 'severity')} | {_of(given, 'for')} | {_of(given, 'threshold')} | {text} |"
        for name, given, text in rows
    ]
    return "\n".join(["| alert | severity | for | threshold | fires when |", "|---|---|---|---|---|", *lines]) + "\n"


def _link(name: str) -> str:
    return f"[{name}](runbooks/{name.lower()}.md)"


def _of(given: object, key: str) -> object:
    assert isinstance(given, dict)
    return given.get(key, "")


def described(values: str) -> list[Row]:
    """(path, default, comment) of every value that has a comment, in the order of the file."""
    found: list[Row] = []
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
