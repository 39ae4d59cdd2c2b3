"""The first line of a local run: every degree above 1 is in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmtrain_operator.cli.running import title
from llmtrain_operator.local.run import Ready
from llmtrain_operator.local.workdir import Workdir
from llmtrain_trainer.config import TrainerConfig

ONE = {"pp": 1, "dp": 1, "cp": 1, "tp": 1, "ep": 1}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"dp": 2, "cp": 2}, "dp 2 × cp 2, "),
        ({"pp": 2, "dp": 4, "ep": 2}, "pp 2 × dp 4, ep 2, "),
        ({}, "one device, "),
    ],
)
def test_the_title_names_every_degree_above_one(changed: dict[str, int], said: str, make_job, resolve) -> None:  # type: ignore[no-untyped-def]
    config: TrainerConfig = resolve(make_job())
    mesh = config.mesh.model_copy(update=ONE | changed)
    ready = Ready(config.model_copy(update={"mesh": mesh}), Workdir(Path("w")), ())
    assert said in title(ready)
