"""Rows begin with the begin token: `begins.py WORKDIR ...`; of a stream only the first has to."""

import sys
from pathlib import Path

import numpy as np

from llmtrain_trainer.data.rows import open_rows, read_stats

for workdir in sys.argv[1:]:
    directory = Path(workdir, "node-0", "prepared", "train", "0")
    rows = open_rows(directory)
    inputs, _, _ = rows.take(np.arange(len(rows))).values()
    began = inputs[:, 0] == 257
    assert began[0] and (read_stats(directory).form == "stream" or began.all()), (workdir, inputs[:, :3])
    ends = np.flatnonzero(inputs.ravel() == 256)
    assert read_stats(directory).form == "table" or (inputs.ravel()[ends[ends + 1 < inputs.size] + 1] == 257).all(), workdir
