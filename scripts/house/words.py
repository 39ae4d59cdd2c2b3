"""Words that docs/glossary.md rules out, found in docs, docstrings, comments and messages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

GLOSSARY = Path("docs/glossary.md")
PLACES = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/**/*.md",
    "operator/**/*.py",
    "trainer_image/**/*.py",
    "charts/**/*.yaml",
    "examples/*.yaml",
)
UNREAD = {GLOSSARY, Path("docs/operations/licences.md")}


def ruled_out(root: Path) -> list[str]:
    """A line for each word that stands where it must not: path:line: word, and the term of the glossary."""
    terms = dict(_terms((root / GLOSSARY).read_text()))
    banned = re.compile(r"\b(" + "|".join(sorted(map(re.escape, terms), key=len, reverse=True)) + r")\b", re.IGNORECASE)
    return [
        f"{path}:{number}: {match[1]!r} (glossary: {terms[match[1].lower()]})"
        for path in _files(root)
        for number, line in enumerate((root / path).read_text().splitlines(), 1)
        for match in banned.finditer(line)
    ]


def _terms(table: str) -> Iterator[tuple[str, str]]:
    """(word that is ruled out, term to write) of each row."""
    for row in table.splitlines():
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        if len(cells) == 3 and cells[0] != "term":
            yield from ((word.strip().lower(), cells[0]) for word in cells[2].strip("| ").split(",") if word.strip())


def _files(root: Path) -> list[Path]:
    found = {path.relative_to(root) for place in PLACES for path in root.glob(place) if ".venv" not in path.parts}
    return sorted(found - UNREAD)
