"""The report says what the files say, on one page that needs nothing else."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from llmtrain_trainer.config import Batch, Checkpoint, Dataset, Estimate, Identity, Mesh, Model, Progress, TrainerConfig, Training, Verdict
from llmtrain_trainer.report import write_report
from llmtrain_trainer.report.facts import gather
from llmtrain_trainer.run_dir.layout import RunDir, append_row

pytestmark = pytest.mark.long

START = 1_700_000_000.0


def progress(step: int, **changes: Any) -> str:
    row: dict[str, Any] = {
        "time": START + 10 + step,
        "step": step,
        "target_steps": 120,
        "consumed_samples": 16 * step,
        "consumed_tokens": 16 * 64 * step,
        "loss": 2.0 + 5.0 * math.exp(-step / 30),
        "grad_norm": 1.0 + 1 / step,
        "learning_rate": 3e-3 * min(1.0, step / 10),
        "step_seconds": 0.5,
        "tokens_per_second": 2048.0,
        "memory_bytes": 480 * 2**20,
    } | changes
    return Progress(**row).model_dump_json(by_alias=True)


def event(run: RunDir, seconds: float, kind: str, message: str, **more: Any) -> None:
    append_row(run.events, json.dumps({"time": START + seconds, "kind": kind, "message": message, **more}))


@pytest.fixture
def config() -> TrainerConfig:
    return TrainerConfig(
        job=Identity(name="demo", attempt=1),
        task="pretrain",
        engine="native",
        device="cpu",
        model=Model(config={"model_type": "llama"}),
        dataset=(Dataset(source="file:///data/text.jsonl"),),
        training=Training(global_batch_size=16, sequence_length=64, max_steps=120),
        checkpoint=Checkpoint(destination="file:///ckpt"),
        mesh=Mesh(procs_per_node=8, pp=2, dp=2, tp=2, stages=((0, 2), (2, 4))),
        batch=Batch(global_size=16, micro_size=2, accumulation=4),
        estimate=Estimate(parameters=1_250_000, trainable_parameters=1_250_000, memory_bytes_per_rank=500 * 2**20),
    )


@pytest.fixture
def run(tmp_path: Path, config: TrainerConfig) -> RunDir:
    run = RunDir(tmp_path / "node-0")
    run.root.mkdir()
    run.config.write_text(config.model_dump_json(by_alias=True))
    run.prepared.mkdir()
    (run.prepared / "prepared.json").write_text(json.dumps({"unigramEntropy": 5.5}))
    event(run, 0, "start", "8 ranks start.")
    for step in range(1, 61):
        append_row(run.metrics, progress(step, **({"blocked_seconds": 0.021} if step == 40 else {})))
    event(run, 52, "checkpoint_committed", "step 40 is committed.", step=40, name="step-00000040-a1-r0", bytes=15 * 2**20)
    event(run, 70, "restart", "Rank 5 was killed by signal 9; ranks start again.", step=60)
    event(run, 72, "restore", "Training goes on from step 40.", step=40, lost_steps=20)
    for step in range(41, 121):
        append_row(run.metrics, progress(step, **({"validation_loss": 2.3} if step % 40 == 0 else {})))
    event(run, 140, "verdict", "All 120 steps are done.", step=120)
    run.termination.write_text(Verdict(exit_code=0, reason="Complete", message="All 120 steps are done.").model_dump_json(by_alias=True))
    return run


def test_the_page_needs_nothing_but_itself(run: RunDir, tmp_path: Path) -> None:
    page = write_report(run, [run], tmp_path / "report").read_text()
    assert page.count("<svg") == 4
    assert not re.findall(r'(?:src|href)="(?!#)', page)
    assert "@import" not in page
    assert (tmp_path / "report" / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_says_how_it_ended_and_what_was_measured(run: RunDir, tmp_path: Path) -> None:
    page = write_report(run, [run], tmp_path / "report").read_text()
    for text in (
        "All 120 steps are done.",
        "dp 2 × tp 2 × pp 2",
        "480.0 MiB",
        "500.0 MiB",
        "96%",
        "15.0 MiB",
        "21 ms",
        "Rank 5 was killed by signal 9",
        "validation loss",
        "2.300",
    ):
        assert text in page


def test_a_step_computed_twice_counts_once_with_its_last_row(run: RunDir) -> None:
    append_row(run.metrics, progress(120, loss=1.5))
    facts = gather(run, [run])
    assert [row.step for row in facts.rows] == list(range(1, 121))
    assert facts.rows[-1].loss == 1.5


def test_lost_steps_and_checkpoint_failures_are_those_that_the_agents_told(run: RunDir) -> None:
    event(run, 53, "checkpoint_superseded", "step 20 is dropped.", step=20)
    event(run, 54, "upload_failed", "An upload failed and is tried again.")
    facts = gather(run, [run])
    assert facts.lost_steps == 20
    assert [row.kind for row in facts.checkpoint_failures] == ["checkpoint_superseded", "upload_failed"]


def test_events_of_all_nodes_are_told_in_order_of_time(run: RunDir, tmp_path: Path) -> None:
    other = RunDir(tmp_path / "node-1")
    event(other, 71, "restart", "The ranks of node 1 start again.")
    facts = gather(run, [run, other])
    assert [(e.node, e.kind) for e in facts.events if e.kind == "restart"] == [(0, "restart"), (1, "restart")]
    assert [e.time for e in facts.events] == sorted(e.time for e in facts.events)


def test_a_run_without_a_step_still_has_a_report(run: RunDir, tmp_path: Path) -> None:
    run.metrics.unlink()
    run.termination.unlink()
    page = write_report(run, [run], tmp_path / "report").read_text()
    assert "No step was finished." in page
    assert not (tmp_path / "report" / "loss.png").exists()


def test_what_users_wrote_is_shown_as_text(run: RunDir, tmp_path: Path) -> None:
    event(run, 99, "stop", "<script>alert(1)</script>")
    assert "<script>" not in write_report(run, [run], tmp_path / "report").read_text()


def test_a_loss_that_is_not_a_number_is_drawn_around(run: RunDir, tmp_path: Path) -> None:
    append_row(run.metrics, progress(119).replace('"loss":' + str(2.0 + 5.0 * math.exp(-119 / 30)), '"loss":NaN'))
    assert gather(run, [run]).rows[-2].loss is None
    assert write_report(run, [run], tmp_path / "report").exists()
