"""Collect real text that every machine has, from the Python standard library: training data for the examples, without a network.

    python examples/collect_text.py out/text/sources.jsonl                       # {"text": a module's source}
    python examples/collect_text.py out/text/docs.jsonl --kind docstrings        # {"text": all docstrings of a module}
    python examples/collect_text.py out/text/chat.jsonl --kind chat              # {"messages": [a question, its answer]}
    python examples/collect_text.py s3://bucket/docs.jsonl --kind docstrings     # into a bucket, by the variables AWS_*

The rows come in the order of the files' names, so that the same Python gives the same bytes.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "lib2to3", "pydoc_data", "turtledemo", "encodings", "__pycache__"}
"""Tests, and tables of code points that teach nobody to write."""


def modules(root: Path) -> Iterator[tuple[str, str]]:
    """(dotted name, source) of every module of the library that is UTF-8 and parses."""
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if LEFT_OUT.intersection(parts):
            continue
        try:
            source = path.read_text(encoding="utf-8")
            ast.parse(source)
        except (SyntaxError, UnicodeDecodeError):
            continue
        yield ".".join(part for part in parts if part != "__init__"), source


def docstrings(name: str, source: str) -> Iterator[tuple[str, str]]:
    """(dotted name, docstring) of the module and of everything public in it."""

    def walk(node: Documented, path: str) -> Iterator[tuple[str, str]]:
        if text := ast.get_docstring(node):
            yield path, inspect.cleandoc(text)
        for child in node.body:
            if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and not child.name.startswith("_"):
                yield from walk(child, f"{path}.{child.name}")

    yield from walk(ast.parse(source), name)


def rows(kind: str, root: Path) -> Iterator[dict[str, Any]]:
    """The documents, in the shape that the formats `text` and `messages` of a dataset take."""
    for name, source in modules(root):
        if kind == "sources":
            yield {"text": source}
        elif kind == "docstrings":
            if texts := [text for _, text in docstrings(name, source)]:
                yield {"text": "\n\n".join(texts)}
        else:
            for path, text in docstrings(name, source):
                answer = text.split("\n\n")[0].replace("\n", " ")
                if len(answer) < 20:
                    continue
                question = {"role": "user", "content": f"What is {path} for?"}
                yield {"messages": [question, {"role": "assistant", "content": answer}]}


def collect(kind: str, out: Path | str, most_bytes: int | None = None) -> int:
    """Write the rows, to a path or a URI, until `most_bytes` are reached; returns how many bytes were written."""
    written = 0
    with fsspec.open(str(out), "w", encoding="utf-8", auto_mkdir=True) as file:
        for row in rows(kind, Path(sysconfig.get_path("stdlib"))):
            if most_bytes is not None and written >= most_bytes:
                break
            written += file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return written


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", help="the .jsonl file to write, here or at an s3:// address")
    parser.add_argument("--kind", choices=("sources", "docstrings", "chat"), default="sources")
    parser.add_argument("--most-bytes", type=int, default=None, help="stop after about this many")
    arguments = parser.parse_args()
    written = collect(arguments.kind, arguments.out, arguments.most_bytes)
    print(f"{arguments.out}: {written / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
