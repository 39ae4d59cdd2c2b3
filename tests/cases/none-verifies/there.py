"""Exactly these steps are committed: `there.py DIRECTORY STEP ...`."""

import sys
from pathlib import Path

committed = sorted(int(path.parent.name.split("-")[1]) for path in Path(sys.argv[1]).glob("step-*/COMMIT"))
assert committed == sorted(map(int, sys.argv[2:])), committed
