"""Both engines started from the same weights: a rate of nearly nothing leaves the first loss."""

import json
from pathlib import Path

found = []
for run in ("w", "v"):
    (file,) = Path(run).rglob("metrics.jsonl")
    found.append([row["loss"] for line in file.read_text().splitlines() if "loss" in (row := json.loads(line))])
print(found)
assert all(abs(a - b) < 1e-4 for a, b in zip(*found, strict=True))
