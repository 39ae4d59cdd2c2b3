"""What ranks run in the tests of engine accelerate."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from llmtrain_trainer.convert.launch import load_script


@pytest.fixture(scope="session")
def parity() -> ModuleType:
    """benchmarks/parity.py: Case, config_of, LLAMA."""
    return load_script(Path(__file__).parents[4] / "benchmarks" / "parity.py")


@pytest.fixture(scope="session")
def jobs() -> Path:
    """The functions that ranks run."""
    return Path(__file__).with_name("rank_jobs.py")
