"""What the tests of engine megatron share: the cases of benchmarks/parity.py, functions for ranks, and the stand-in for CUDA."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from llmtrain_trainer.convert.launch import load_script

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "agent"))


@pytest.fixture(scope="session")
def parity() -> ModuleType:
    """benchmarks/parity.py: Case, config_of, LLAMA."""
    return load_script(HERE.parents[3] / "benchmarks" / "parity.py")


@pytest.fixture(scope="session")
def jobs() -> Path:
    """The functions that ranks run."""
    return HERE / "rank_jobs.py"


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Agents started in a test give their ranks the stand-in for CUDA."""
    monkeypatch.setenv("LLMTRAIN_CUDA_STAND_IN", "cuda_stand_in")
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    yield
