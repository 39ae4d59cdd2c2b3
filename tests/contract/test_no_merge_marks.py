"""No file of the repository holds the marks of a merge that nobody finished."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("operator", "trainer_image", "docs", "charts", "crds", "examples", "benchmarks", "scripts", "tests", "requirements")
MARK = re.compile(r"^(<{7} |>{7} |={7}$)", re.MULTILINE)
KINDS = {".md", ".py", ".yaml", ".toml", ".txt", ".sh", ".svg", ".in", ""}


def test_no_file_holds_merge_marks() -> None:
    inside = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    files = [path for path in (*ROOT.glob("*"), *inside) if path.is_file() and path.suffix in KINDS]
    texts = {path: path.read_bytes().decode(errors="replace") for path in files}
    assert len(texts) > 500
    assert [str(path.relative_to(ROOT)) for path, text in texts.items() if MARK.search(text)] == []
