"""A directory as exports and object stores leave it."""

import os
from pathlib import Path

data = Path("data [1]")
(data / "deep").mkdir(parents=True)
rows = "".join(f'{{"text": "the model reads row {i} of the text"}}\n' for i in range(30))
(data / "a.jsonl").write_text(rows + '{"text": null}\n{"text": "half \\ud83d"}\n')
(data / "deep" / "b.ndjson").write_text("\ufeff" + rows + '{"text": null}\n')
(data / "c*.jsonl").write_text(rows + "null\nnull\n".replace("null\n", "", 1))
for name in ("README.md", "LICENSE", "_SUCCESS", "dataset_info.json", "deep/notes.txt.md5", "part.crc"):
    (data / name).write_text("about\n")
os.mkfifo(data / "fifo.jsonl")
(data / "environ.jsonl").symlink_to("/proc/self/environ")
