"""What ranks run in the tests of engine deepspeed."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from llmtrain_trainer.parallel.launch import load_script


@pytest.fixture(scope="session")
def parity() -> ModuleType:
    """benchmarks/parity.py: Case, config_of, LLAMA."""
    return load_script(Path(__file__).parents[3] / "benchmarks" / "parity.py")


@pytest.fixture(scope="session")
def jobs() -> Path:
    """The functions that ranks run."""
    return Path(__file__).with_name("rank_jobs.py")
