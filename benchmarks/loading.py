"""Loads a file of the repository that lies in no package: the servers of the tests, the scripts of the examples. Used by the benchmarks."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]


def load(path: str) -> ModuleType:
    """The module in `path`, relative to the repository."""
    file = ROOT / path
    specification = importlib.util.spec_from_file_location(file.stem, file)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[file.stem] = module  # dataclasses look their module up by name
    specification.loader.exec_module(module)
    return module
