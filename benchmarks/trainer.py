"""What the trainer costs: `make bench` prints the table and writes out/bench-trainer.json.

step time of `native` against a bare loop and HF Trainer; the stall of a checkpoint; recovery from a killed rank; upload against the
store's own speed. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import recovery
import step_time
import upload

OUT = Path("out/bench-trainer.json")


def main() -> None:
    steps, kills, uploads = step_time.measure(), recovery.measure(), upload.measure()
    machine = {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps({"machine": machine, "step_time": steps, "recovery": kills, "upload": uploads}, indent=2) + "\n")
    slowest = max(kills["seconds_from_kill_to_next_step"])
    for size, figures in steps.items():
        row(f"step time, {size} model, native / bare PyTorch loop", figures["native_over_bare"], "<= 1.02")
        row(f"step time, {size} model, native / HF Trainer", figures["native_over_hf_trainer"], "< 1")
    row("checkpoint: seconds blocked / step time", kills["blocked_over_step"], "<= 1")
    row("kill -9 to the next step, seconds, slowest", slowest, "<= 10")
    row("of which rank start, seconds, slowest", max(kills["rank_start_seconds"], default=float("nan")), "<= 1")
    row("upload, uploader / boto3", uploads["uploader_over_boto3"], ">= 0.9")
    row("upload to a directory, uploader / copy and fsync", uploads["uploader_over_copy_to_a_directory"], ">= 0.9")
    print(f"wrote {OUT}")


def row(what: str, value: Any, goal: str) -> None:
    print(f"{what:54} {value:8.3f}   goal {goal}")


if __name__ == "__main__":
    main()
