"""links.py 1 | 2: puts a version behind the link, equal in size and times, as a mounted ConfigMap or a dataset store may do."""

import os
import sys
from pathlib import Path

version = sys.argv[1]
for name in ("data", "tree", "dangling", f"store-{version}"):
    Path(name).mkdir(exist_ok=True)
rows = Path(f"store-{version}", "v.jsonl")
word = {"1": "river", "2": "stone"}[version]
rows.write_text("".join(f'{{"text": "{" ".join([word] * 7)}"}}\n' for _ in range(40)))
os.utime(rows, (1_000_000_000, 1_000_000_000))
Path("dangling", "b.jsonl").write_bytes(rows.read_bytes())
for link, target in (
    ("data/a.jsonl", f"../store-{version}/v.jsonl"),
    ("tree/shard", f"../store-{version}"),
    ("dangling/old.jsonl", "../nowhere"),
):
    Path(link).unlink(missing_ok=True)
    Path(link).symlink_to(target)
