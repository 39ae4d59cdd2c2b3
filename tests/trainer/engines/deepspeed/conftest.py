"""What ranks run in the tests of engine deepspeed."""

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


@pytest.fixture(scope="session")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that DeepSpeed can offload to."""
    from deepspeed.ops.op_builder import AsyncIOBuilder

    if not AsyncIOBuilder().is_compatible():
        pytest.skip("DeepSpeed compiles what reads disks with g++ and libaio-dev, and one of them is not here")
    return tmp_path_factory.mktemp("disk")
