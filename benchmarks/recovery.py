"""Seconds from kill -9 of a rank to the next step, and how long a checkpoint holds up training, in runs of the demo's layout.

Called by benchmarks/trainer.py. A step counts when its row is written; the step after the kill is the first that is computed again.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loading import ROOT, load

from llmtrain_operator.cli.manifest import load_manifest
from llmtrain_operator.cli.running import choose_view
from llmtrain_operator.local.run import get_ready, run
from llmtrain_operator.local.watch import Snapshot
from llmtrain_operator.local.workdir import Workdir

KILLS, STEPS, EVERY = 3, 60, 8


@dataclass
class Killer:
    """Kills one rank some steps after each newly committed checkpoint, `KILLS` times in all."""

    node: Path
    times: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    """Seconds from the agent's word to start until the last rank runs its first line."""

    saved: int = 0

    def __call__(self, snapshot: Snapshot) -> None:
        last, saved = snapshot.last, snapshot.checkpoint
        if len(self.times) == KILLS or last is None or saved is None or saved.step <= self.saved or last.step < saved.step + 2:
            return
        beats = [beat for node in snapshot.nodes if node is not None for beat in node.heartbeats if beat.rank == len(self.times)]
        if beats and beats[0].time > (self.times[-1] if self.times else 0.0):
            self.saved = saved.step
            os.kill(beats[0].pid, signal.SIGKILL)
            self.times.append(time.time())
            threading.Thread(target=self._time_start, args=(time.time(),), daemon=True).start()

    def _time_start(self, killed: float) -> None:
        """resume.json is the agent's last word before it forks; a heartbeat is a rank's first."""
        resume, beats = self.node / "resume.json", sorted((self.node / "heartbeat").iterdir())
        first: dict[Path, float] = {}
        while len(first) < len(beats):
            for beat in beats:
                with suppress(FileNotFoundError):  # taken away while ranks start again
                    said = json.loads(beat.read_text())["time"]
                    if beat not in first and said > resume.stat().st_mtime > killed:
                        first[beat] = said
            time.sleep(0.01)
        self.starts.append(max(first.values()) - resume.stat().st_mtime)


def measure() -> dict[str, Any]:
    """One run of 2 x 2 x 2 on CPU processes, with `KILLS` kills."""
    with tempfile.TemporaryDirectory() as scratch:
        text = Path(scratch) / "text.jsonl"
        load("examples/collect_text.py").collect("docstrings", text)
        settings = [
            f"spec.dataset[0].source=file://{text}",
            f"spec.training.maxSteps={STEPS}",
            f"spec.checkpoint.destination=file://{scratch}/checkpoints",
            f"spec.checkpoint.every.steps={EVERY}",
        ]
        ready = get_ready(load_manifest(str(ROOT / "examples" / "01-demo-2x2x2.yaml"), settings), Workdir(Path(scratch) / "run"))
        killer = Killer(ready.workdir.node(0))
        outcome = run(ready, choose_view(ready, plain=True), killer)
        assert outcome.exit_code == 0, outcome.verdict
        node = ready.workdir.node(0)
        rows = [json.loads(line) for line in (node / "metrics.jsonl").read_text().splitlines()]
    recovered = [next(row["time"] for row in rows if row["time"] > killed) - killed for killed in killer.times]
    blocked = [row["blockedSeconds"] for row in rows if row["blockedSeconds"]]
    step = statistics.median(row["stepSeconds"] for row in rows)
    return {
        "layout": "dp 2 x tp 2 x pp 2, 8 processes",
        "kills": len(killer.times),
        "seconds_from_kill_to_next_step": recovered,
        "rank_start_seconds": killer.starts,
        "step_seconds": step,
        "checkpoint_blocked_seconds": statistics.median(blocked),
        "blocked_over_step": statistics.median(blocked) / step,
    }


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
