"""The verdict and every row are JSON, nothing was exported, and a committed checkpoint stays: `check.py WORKDIR CHECKPOINTS`."""

import json
import sys
from pathlib import Path


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


node, checkpoints = Path(sys.argv[1], "node-0"), Path(sys.argv[2])
verdict = json.loads((node / "termination.json").read_text(), parse_constant=refuse)
assert verdict["reason"] == "Diverged", verdict
rows = [json.loads(line, parse_constant=refuse) for line in (node / "metrics.jsonl").read_text().splitlines()]
assert rows[-1]["gradNorm"] is None, rows[-1]
assert not (node / "export").exists() and not (checkpoints / "export").exists()
committed = [path.parent.name for path in checkpoints.glob("step-*/COMMIT")]
assert committed and max(committed) < "step-00000003", committed
