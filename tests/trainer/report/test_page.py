"""The words and tables of the report, from facts alone: what ended how, what was planned beside what was measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llmtrain_trainer.config import Batch, Dataset, Estimate, Identity, Mesh, Model, Progress, TrainerConfig, Training, Verdict
from llmtrain_trainer.report.facts import Event, Facts
from llmtrain_trainer.report.page import checkpoints, comparisons, headline, layout_text, tiles, timeline

START = 1_700_000_000.0


def config(**changes: Any) -> TrainerConfig:
    facts: dict[str, Any] = {
        "job": Identity(name="demo"),
        "task": "pretrain",
        "engine": "native",
        "device": "cpu",
        "model": Model(config={"model_type": "llama"}),
        "dataset": (Dataset(source="file:///text.jsonl"),),
        "training": Training(global_batch_size=8, sequence_length=16, max_steps=2000),
        "mesh": Mesh(stages=((0, 1),)),
        "batch": Batch(global_size=8, micro_size=1, accumulation=8),
        "estimate": Estimate(parameters=1_250_000, trainable_parameters=20_000, memory_bytes_per_rank=500 * 2**20, tokens_per_second=256.0),
    }
    return TrainerConfig(**(facts | changes))


def row(step: int, **changes: Any) -> Progress:
    facts: dict[str, Any] = {"loss": 5.0 / step, "learning_rate": 0.1, "step_seconds": 0.5, "tokens_per_second": 128.0, **changes}
    time = START + step
    return Progress(time=time, step=step, target_steps=2000, consumed_samples=8 * step, consumed_tokens=128 * step, **facts)


def facts(*rows: Progress, **changes: Any) -> Facts:
    plain = Facts(config=config(), rows=rows, events=(), verdict=None, notices=(), unigram_entropy=None)
    return replace(plain, **changes)


def event(seconds: float, kind: str, step: int | None = None, node: int = 0, message: str = "", **detail: Any) -> Event:
    return Event(time=START + seconds, kind=kind, message=message, node=node, step=step, detail=detail)


def tile(found: Facts, label: str) -> tuple[str, str]:
    ((value, note),) = [(value, note) for name, value, note in tiles(found) if name == label]
    return value, note


def compared(found: Facts, what: str) -> tuple[str, str, str]:
    ((planned, measured, ratio),) = [(row.planned, row.measured, row.ratio) for row in comparisons(found) if row.what == what]
    return planned, measured, ratio


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (facts(), "No step was finished."),
        (facts(row(1), row(40)), "Step 40 of 2000; no verdict was written yet."),
        (
            facts(row(40), verdict=Verdict(exit_code=1, reason="RankFailed", message="Rank 3 ran out of memory.")),
            "Rank 3 ran out of memory.",
        ),
        (facts(verdict=Verdict(exit_code=65, reason="BadData", message="Row 3 is no object.")), "Row 3 is no object."),
    ],
    ids=["nothing", "under way", "failed", "refused"],
)
def test_the_headline_is_the_verdict_or_how_far_it_came(found: Facts, said: str) -> None:
    assert headline(found) == said


@pytest.mark.parametrize(
    ("mesh", "text"),
    [
        ({"stages": ((0, 1),)}, "dp 1 × tp 1 × pp 1"),
        ({"dp": 2, "tp": 4, "procs_per_node": 8, "stages": ((0, 1),)}, "dp 2 × tp 4 × pp 1"),
        ({"cp": 2, "procs_per_node": 2, "stages": ((0, 1),)}, "dp 1 × tp 1 × pp 1 × cp 2"),
        ({"dp": 2, "ep": 2, "procs_per_node": 2, "stages": ((0, 1),)}, "dp 2 × tp 1 × pp 1 × ep 2"),
    ],
)
def test_degrees_that_nobody_asked_for_are_left_out_of_the_layout(mesh: dict[str, Any], text: str) -> None:
    assert layout_text(facts(config=config(mesh=Mesh(**mesh)))) == text


@pytest.mark.parametrize(
    ("device", "mesh", "note"),
    [
        ("cpu", {"stages": ((0, 1),)}, "1 CPU processes on 1 node"),
        ("cpu", {"dp": 4, "nodes": 2, "procs_per_node": 2, "stages": ((0, 1),)}, "4 CPU processes on 2 nodes"),
        ("cuda", {"dp": 8, "procs_per_node": 8, "stages": ((0, 1),)}, "8 GPUs on 1 node"),
    ],
)
def test_the_layout_says_which_devices_on_how_many_nodes(device: str, mesh: dict[str, Any], note: str) -> None:
    assert tile(facts(config=config(device=device, mesh=Mesh(**mesh))), "layout")[1] == note


def test_a_run_without_a_step_has_dashes_and_zeros_and_no_empty_sentences() -> None:
    found = facts()
    assert tile(found, "loss") == ("-", "") and tile(found, "steps") == ("0", "")
    assert tile(found, "tokens")[0] == "-" and tile(found, "time") == ("0s", "0.00 s per step")


def test_the_tiles_tell_first_and_last_of_what_changed() -> None:
    found = facts(row(1), row(2), row(1500))
    assert tile(found, "loss") == ("0.003", "from 5.000")
    assert tile(found, "steps") == ("1,500", "of 2,000")
    assert tile(found, "tokens") == ("192k", "128 per second")
    assert tile(found, "time") == ("25m00s", "0.50 s per step")


@pytest.mark.parametrize(
    ("losses", "value", "note"),
    [
        ({2: 2.5}, "2.500", "at step 2"),
        ({2: 2.5, 4: 2.25}, "2.250", "at step 4"),
        ({2: 2.25, 4: 2.5}, "2.500", "at step 4, lowest 2.250 at step 2"),
        ({2: 2.25, 4: 2.25}, "2.250", "at step 4"),
        ({1000: 2.0, 2000: 3.0}, "3.000", "at step 2,000, lowest 2.000 at step 1,000"),
    ],
)
def test_a_validation_loss_that_rose_is_told_with_its_lowest(losses: dict[int, float], value: str, note: str) -> None:
    found = facts(*(row(step, validation_loss=loss) for step, loss in losses.items()))
    assert tile(found, "validation loss") == (value, note)


def test_without_an_evaluation_there_is_no_tile_of_one() -> None:
    assert not [name for name, _, _ in tiles(facts(row(1))) if name.startswith("validation")]


def test_each_measure_of_the_newest_evaluation_has_a_tile() -> None:
    found = facts(row(10, validation_metrics={"accuracy": 0.5}), row(1200, validation_metrics={"accuracy": 0.75, "f1": 0.5}))
    assert tile(found, "validation accuracy") == ("0.750", "at step 1,200") and tile(found, "validation f1") == ("0.500", "at step 1,200")


def test_failures_are_counted_beside_what_they_cost() -> None:
    events = (
        event(1, "checkpoint_committed", 10),
        event(2, "restart", 12),
        event(3, "restore", 10, lost_steps=2),
        event(4, "hang", 13),
        event(5, "checkpoint_rejected", 13),
    )
    found = facts(row(20), events=events)
    assert tile(found, "restarts") == ("2", "2 steps trained again")
    assert tile(found, "checkpoints") == ("1", "1 refused, dropped or interrupted")


def test_what_was_planned_stands_beside_what_was_measured() -> None:
    rows = [row(1, memory_bytes=100 * 2**20), row(2, memory_bytes=480 * 2**20, mfu=0.25), row(500, memory_bytes=450 * 2**20, mfu=0.35)]
    found = facts(*rows)
    assert compared(found, "Steps") == ("2,000", "500", "25%")
    assert compared(found, "Memory of the fullest rank") == ("500.0 MiB", "480.0 MiB", "96%")
    assert compared(found, "Tokens per second") == ("256", "128", "50%")
    assert compared(found, "Model FLOP utilisation") == ("-", "30.0%", "-")
    assert compared(found, "Parameters") == ("1.25M", "20k trained", "-")


def test_a_plan_of_epochs_is_compared_by_the_steps_that_followed_from_them() -> None:
    epochs = config(training=Training(global_batch_size=8, sequence_length=16, max_steps=None, epochs=3))
    assert compared(facts(row(500), config=epochs), "Steps") == ("2,000", "500", "25%")
    assert compared(facts(config=epochs), "Steps") == ("-", "0", "-")


def test_what_was_not_measured_is_a_dash_and_has_no_ratio() -> None:
    assert compared(facts(row(1)), "Memory of the fullest rank") == ("500.0 MiB", "-", "-")
    unknown = facts(row(1), config=config(estimate=Estimate()))
    assert compared(unknown, "Tokens per second") == ("-", "128", "-")


def test_a_checkpoint_has_its_size_what_training_waited_for_and_when_it_counted() -> None:
    found = facts(
        row(1, step_seconds=1.0),
        row(1000, blocked_seconds=0.0213),
        events=(
            event(130.0, "checkpoint_committed", 1000, name="step-00001000-a1-r0", bytes=15 * 2**20),
            event(140.0, "checkpoint_committed", 2000, name="step-00002000-a1-r0"),
            event(150.0, "checkpoint_committed"),
        ),
    )
    first, second, third = checkpoints(found)
    assert (first.name, first.step, first.bytes, first.blocked, first.committed) == (
        "step-00001000-a1-r0",
        "1,000",
        "15.0 MiB",
        "21 ms",
        "+2m10s",
    )
    assert (second.bytes, second.blocked, second.committed) == ("-", "-", "+2m20s")
    assert (third.name, third.step) == ("", "-")


def test_commits_have_a_table_of_their_own_and_are_not_in_the_timeline() -> None:
    events = (
        event(0, "start", message="8 ranks start."),
        event(1, "checkpoint_committed", 4),
        event(75, "upload_failed", 4000, message="503"),
    )
    assert timeline(facts(events=events)) == [
        ("22:13:20  +0s", "start", "", "8 ranks start."),
        ("22:14:35  +1m15s", "upload failed", "4,000", "503"),
    ]


def test_with_several_nodes_each_event_names_its_node() -> None:
    two = config(mesh=Mesh(dp=2, nodes=2, stages=((0, 1),)))
    events = (event(0, "start", message="Ranks start."), event(1, "restart", node=1, message="Rank 1 was killed."))
    assert [message for _, _, _, message in timeline(facts(config=two, events=events))] == [
        "node 0: Ranks start.",
        "node 1: Rank 1 was killed.",
    ]
