"""Every example is valid and can be planned, and the text they train on is there on every machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from llmtrain_operator.cli.manifest import load_manifest
from llmtrain_operator.plan.plan import plan
from llmtrain_operator.sources import read_shape

EXAMPLES = Path(__file__).parents[3] / "examples"
MANIFESTS = sorted(EXAMPLES.glob("[0-9]*.yaml"))


def test_examples_are_numbered_without_a_gap() -> None:
    assert [int(path.name[:2]) for path in MANIFESTS] == list(range(1, len(MANIFESTS) + 1))


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_every_example_is_valid_and_fits(path: Path) -> None:
    job = load_manifest(str(path))
    assert plan(job, read_shape(job.spec.model)).fits


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_every_example_says_how_to_use_it(path: Path) -> None:
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any("llmtrain" in line and path.name in line for line in head)


@pytest.mark.parametrize(("kind", "key"), [("sources", "text"), ("docstrings", "text"), ("chat", "messages")])
def test_text_is_collected_from_the_standard_library(tmp_path: Path, kind: str, key: str) -> None:
    out = tmp_path / "text.jsonl"
    subprocess.run([sys.executable, EXAMPLES / "collect_text.py", out, "--kind", kind, "--most-bytes", "100000"], check=True)
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert 100_000 <= out.stat().st_size < 1_000_000
    assert all(set(row) == {key} and row[key] for row in rows)
