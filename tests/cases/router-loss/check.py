"""The last step's loss differs by the router loss, and is the same in both engines."""

import json
from pathlib import Path


def last(run: str) -> float:
    rows = [json.loads(line) for file in Path(run).rglob("metrics*.jsonl") for line in file.read_text().splitlines()]
    return max((row["step"], row["loss"]) for row in rows if "loss" in row)[1]


losses = {name: last(name) for name in ("native-0", "native-10", "deepspeed-0", "deepspeed-10")}
print(losses)
assert abs(losses["native-0"] - losses["native-10"]) > 1e-3
for coefficient in ("0", "10"):
    assert abs(losses[f"native-{coefficient}"] - losses[f"deepspeed-{coefficient}"]) < 1e-4
