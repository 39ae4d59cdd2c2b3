"""promtool, as scripts/prometheus.sh finds or fetches it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "prometheus.sh"


def promtool_path() -> str:
    """Skips the test where there is none and none can be fetched."""
    made = subprocess.run([SCRIPT], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(made.stderr.strip())
    return f"{made.stdout.strip()}/promtool"
