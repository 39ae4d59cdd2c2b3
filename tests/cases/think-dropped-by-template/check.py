"""What the rows of a run hold: `check.py WORKDIR inputs|labels|both TEXT ...`; a text that begins with ! must be nowhere."""

import sys
from pathlib import Path

import numpy as np

from llmtrain_trainer.data.formats.encoding import load_tokenizer
from llmtrain_trainer.data.rows import open_rows

prepared, texts = Path(sys.argv[1], "node-0", "prepared"), sys.argv[3:]
tokenizer, rows = load_tokenizer(prepared / "tokenizer"), open_rows(prepared / "train" / "0")
inputs, labels, _ = rows.take(np.arange(len(rows))).values()
held = "\n".join(tokenizer.decode(row.tolist()) for row in inputs)
learned = "\n".join(tokenizer.decode(row[row != -100].tolist()) for row in labels)
content = {"inputs": held, "labels": learned}[sys.argv[2]]
for text in texts:
    assert (text.removeprefix("!") in content) != text.startswith("!"), f"{text}: {content[:2000]}"
