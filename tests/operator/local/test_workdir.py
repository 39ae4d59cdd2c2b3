"""Files of a local run: one directory a node, earlier runs put aside, growing files read once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.local.workdir import Tail, Workdir
from llmtrain_trainer.config import TrainerConfig, Verdict

Make = Callable[..., LLMTrainJob]
Resolve = Callable[[LLMTrainJob], TrainerConfig]


def test_each_node_gets_the_config_and_no_old_verdict(tmp_path: Path, make_job: Make, resolve: Resolve) -> None:
    config = resolve(make_job(resources={"nodes": 2, "procsPerNode": 4}))
    place = Workdir(tmp_path)
    place.write(config, fresh=True)
    for index in (0, 1):
        (place.node(index) / "termination.json").write_text(Verdict(exit_code=75, reason="Saved", message="Saved.").model_dump_json())
        (place.node(index) / "stop").touch()
        (place.node(index) / "metrics.jsonl").touch()
    place.write(config, fresh=False)
    assert place.nodes() == [tmp_path / "node-0", tmp_path / "node-1"]
    for index in (0, 1):
        assert TrainerConfig.model_validate_json((place.node(index) / "config.json").read_text()) == config
        assert {path.name for path in place.node(index).iterdir()} == {"config.json", "metrics.jsonl"}


def test_a_fresh_run_puts_the_earlier_ones_aside(tmp_path: Path, make_job: Make, resolve: Resolve) -> None:
    place, config = Workdir(tmp_path), resolve(make_job())
    for run in range(3):
        place.write(config, fresh=True)
        (place.node(0) / "metrics.jsonl").write_text(f"{run}")
    assert (tmp_path / "earlier-1" / "node-0" / "metrics.jsonl").read_text() == "0"
    assert (tmp_path / "earlier-2" / "node-0" / "metrics.jsonl").read_text() == "1"
    assert place.nodes() == [tmp_path / "node-0"]


def test_nodes_are_in_order_of_their_number(tmp_path: Path) -> None:
    for index in (10, 2, 0):
        (tmp_path / f"node-{index}").mkdir()
    assert [path.name for path in Workdir(tmp_path).nodes()] == ["node-0", "node-2", "node-10"]


def test_a_tail_gives_each_row_once_and_waits_for_the_end_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    tail = Tail(path)
    assert list(tail.rows()) == []
    path.write_text('{"a": 1}\n{"a": 2}\n{"a"')
    assert list(tail.rows()) == [{"a": 1}, {"a": 2}]
    assert list(tail.rows()) == []
    with path.open("a") as file:
        file.write(f": 3}}\n{json.dumps({'a': 'ä'})}\n")
    assert list(tail.rows()) == [{"a": 3}, {"a": "ä"}]
