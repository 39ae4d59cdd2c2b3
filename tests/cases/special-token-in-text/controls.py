"""Control tokens are those that the template wrote: two turns have two ends; a text has one, and two where the manifest says so."""

from pathlib import Path

import numpy as np

from llmtrain_trainer.data.rows import open_rows


def tokens(workdir: str) -> list[int]:
    rows = open_rows(Path(workdir, "node-0", "prepared", "train", "0"))
    inputs, labels, _ = rows.take(np.arange(len(rows))).values()
    return [*inputs.ravel().tolist(), *labels.ravel().tolist()]


assert tokens("w1").count(257) == 4 * 2, tokens("w1").count(257)
assert tokens("w1").count(258) == 4 * 2, tokens("w1").count(258)
assert tokens("w3").count(256) > 1.5 * tokens("w2").count(256)
