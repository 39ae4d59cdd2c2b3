"""Installing Debian's packages beside another apt: it is waited for, and what cannot be waited for is said."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "apt_install.sh"
pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("apt-get") is None, reason="needs root and apt-get (Debian or Ubuntu)"),
]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An apt with package lists of its own and no sources, so that nothing is fetched."""
    (tmp_path / "lists" / "partial").mkdir(parents=True)
    settings = tmp_path / "apt.conf"
    settings.write_text(
        f'Dir::State::Lists "{tmp_path}/lists"; Dir::Etc::SourceList "/dev/null"; Dir::Etc::SourceParts "/dev/null"; '
        f'Dir::Cache "{tmp_path}"; Dir::State::extended_states "{tmp_path}/extended_states";'
    )
    return {**os.environ, "APT_CONFIG": str(settings)}


@contextmanager
def held(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        yield


def install(environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen([SCRIPT, "dpkg"], env=environment, stderr=subprocess.PIPE, text=True)


def test_another_apt_is_waited_for(environment: dict[str, str], tmp_path: Path) -> None:
    with held(tmp_path / "lists" / "lock"):
        script = install(environment)
        assert script.stderr is not None
        assert script.stderr.readline() == "apt_install: another apt is at work, waiting for it\n"
    _, said = script.communicate(timeout=60)
    assert (script.returncode, said) == (0, "")


def test_patience_has_an_end_that_is_said(environment: dict[str, str], tmp_path: Path) -> None:
    with held(tmp_path / "lists" / "lock"):
        script = install(environment | {"APT_PATIENCE": "1"})
        _, said = script.communicate(timeout=60)
    assert script.returncode == 1
    assert said.endswith("apt_install: another apt has held its lock for 1 s. Let it end, or end it, and try again.\n")
