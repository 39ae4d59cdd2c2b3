"""What becomes of processes whose parents are gone."""

from __future__ import annotations

import subprocess
import sys

import pytest

ADOPT = """
import ctypes, subprocess, time, psutil
from llmtrain_trainer.agent.processes.orphans import reap
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans come to this process, as they come to PID 1
own = subprocess.Popen(["true"])
subprocess.run(["sh", "-c", "sleep 0.05 & true"], check=True)
zombies = lambda: {child.pid for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE}
while len(zombies()) < 2:
    time.sleep(0.01)
reap({own.pid})
assert zombies() == {own.pid}, zombies()
assert own.wait() == 0
"""


@pytest.mark.skipif(sys.platform != "linux", reason="subreapers are a thing of Linux")
def test_an_adopted_orphan_is_reaped_and_an_own_child_is_left_to_its_owner() -> None:
    subprocess.run([sys.executable, "-c", ADOPT], check=True, timeout=60)
