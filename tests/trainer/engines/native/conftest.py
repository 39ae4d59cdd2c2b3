"""Small models and the layouts of benchmarks/parity.py for the tests of the native engine."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from llmtrain_trainer.convert.launch import load_script

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="session")
def parity() -> ModuleType:
    """benchmarks/parity.py: Case, config_of, LLAMA."""
    return load_script(ROOT / "benchmarks" / "parity.py")


@pytest.fixture(scope="session")
def jobs() -> Path:
    """The functions that ranks run."""
    return Path(__file__).with_name("rank_jobs.py")


@pytest.fixture
def tiny_llama(parity: ModuleType) -> dict[str, Any]:
    """config.json of a Llama of 4 layers: hidden 64, vocabulary 512."""
    return dict(parity.LLAMA)
