"""`operator/` must stay a plain directory: as a package it would shadow the standard library's `operator`."""

import operator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["__init__.py", "conftest.py", "operator.py", "tests"])
def test_operator_directory_holds_nothing_that_shadows_the_standard_library(name: str) -> None:
    assert not (ROOT / "operator" / name).exists()


def test_import_operator_finds_the_standard_library() -> None:
    assert operator.itemgetter(1)("ab") == "b"
