"""The chart as helm renders it. What a cluster makes of it is asked in tests/cluster."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # the package tests.cluster holds the programs

from tests.cluster import binaries, release


@pytest.fixture(scope="session", autouse=True)
def helm() -> None:
    """helm is there; these tests need nothing else."""
    try:
        release.helm("version")
    except binaries.CannotRunError as error:
        pytest.skip(str(error))
