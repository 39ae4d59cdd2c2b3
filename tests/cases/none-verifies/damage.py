"""Flip one bit in every shard of a destination: `damage.py DIRECTORY`."""

import sys
from pathlib import Path

for path in Path(sys.argv[1]).glob("step-*/__0_0.distcp"):
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
