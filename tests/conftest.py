"""What holds for every tier."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

CHANCE = bool(os.environ.get("LLMTRAIN_CHANCE"))
"""Set by `make fuzz`: other examples at each run. Everywhere else the same ones, so that what passes here passes on another machine."""

settings.register_profile("untimed", deadline=None, derandomize=not CHANCE, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")  # a busy machine is no bug: no example has to be fast


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Refuse values in an order that each process draws for itself: pytest-xdist then finds other tests in each and runs none."""
    for mark in metafunc.definition.iter_markers("parametrize"):
        assert not isinstance(mark.args[1], (set, frozenset)), f"{metafunc.definition.nodeid}: sort the values of {mark.args[0]}"
