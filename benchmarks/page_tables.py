"""Tables of a page under docs/, written anew between their marks. Called by the benchmarks that print such tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path


def fill(page: Path, name: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Put the table between `<!-- table: name -->` and `<!-- end -->`. Raises ValueError where the page has no such marks."""
    lines = [head, ["---"] * len(head), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    found, count = re.subn(
        rf"(<!-- table: {re.escape(name)} -->\n).*?(<!-- end -->)",
        lambda match: f"{match[1]}{table}\n{match[2]}",
        page.read_text(),
        flags=re.S,
    )
    if count != 1:
        raise ValueError(
            f"{page.name} has {count} places for the table {name}: it needs one, between <!-- table: {name} --> and <!-- end -->"
        )
    page.write_text(found)
