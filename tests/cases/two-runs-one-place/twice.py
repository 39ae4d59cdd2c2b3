"""One run trains; others come into its workdir, the destination of its checkpoints and that of its exports."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

RUN = [sys.executable, "-c", "from llmtrain_operator.cli import main; main()", "run", "-f", "job.yaml", "--plain", "--workdir"]


def ended(workdir: str, *more: str) -> tuple[int, str]:
    """Exit code and output of a whole run."""
    done = subprocess.run([*RUN, workdir, *more], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


first = subprocess.Popen([*RUN, "w"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
rows = Path("w/node-0/metrics.jsonl")
until = time.monotonic() + 120
while not (rows.exists() and rows.stat().st_size) and time.monotonic() < until and first.poll() is None:
    time.sleep(0.1)
same_workdir, same_destination = ended("w"), ended("w2")
same_output = ended("w3", "--set", "spec.checkpoint.destination=file://./ck3")
first.send_signal(signal.SIGINT)
said, _ = first.communicate(timeout=120)
print(said, *same_workdir, *same_destination, *same_output, sep="\n")
assert first.returncode == 75, "the first was disturbed"
assert same_workdir[0] == 2 and f"process {first.pid}" in same_workdir[1] and "give --workdir another directory" in same_workdir[1]
assert same_destination[0] == 73 and "writes its checkpoints there" in same_destination[1] and "/w/node-0" in same_destination[1]
assert same_output[0] == 73 and "each would replace what the other exports" in same_output[1]
code, said = ended("w2", "--set", "spec.checkpoint.resume=none", "--set", "spec.training.maxSteps=2")
print(said)
assert code == 0, "the destination is free again"
