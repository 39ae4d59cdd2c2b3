"""The two runs trained on different data."""

import json
from pathlib import Path

first, second = (json.loads(Path(workdir, "node-0/prepared/prepared.json").read_text())["digest"] for workdir in ("w1", "w2"))
assert first != second
