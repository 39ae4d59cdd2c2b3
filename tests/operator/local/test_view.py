"""What the screen says of a snapshot."""

from __future__ import annotations

import math
from typing import Any

import pytest
from rich.console import Console

from llmtrain_operator.local.sparkline import sparkline
from llmtrain_operator.local.view import LiveView, PlainView, panel, state_line
from llmtrain_operator.local.watch import Happening, Snapshot
from llmtrain_trainer.config import CheckpointStatus, NodeStatus, Progress, Verdict

NOW = 1_700_000_100.0


def row(step: int, **changes: Any) -> Progress:
    fields: dict[str, Any] = {
        "time": NOW - 60 + step,
        "step": step,
        "target_steps": 120,
        "consumed_samples": step,
        "consumed_tokens": step,
        "loss": 7.0 - step / 20,
        "grad_norm": 1.0,
        "learning_rate": 1e-3,
        "step_seconds": 0.5,
        "tokens_per_second": 2048.0,
    }
    return Progress(**fields | changes)


def node(rank: int = 0, **changes: Any) -> NodeStatus:
    return NodeStatus(**{"job": "demo", "attempt": 1, "node_rank": rank, "phase": "training"} | changes)


def snapshot(**changes: Any) -> Snapshot:
    checkpoint = CheckpointStatus(name="step-00000040-a1-r0", step=40, uri="file:///c", bytes=10, committed_at=NOW - 4)
    fields: dict[str, Any] = {
        "time": NOW,
        "nodes": (node(restarts=1, resumed_from_step=40, message="Step after step."),),
        "checkpoint": checkpoint,
        "rows": tuple(row(step) for step in range(1, 61)),
    }
    return Snapshot(**fields | changes)


def drawn(of: Snapshot, width: int = 100) -> str:
    console = Console(width=width, record=True, force_terminal=False, file=None, quiet=False)
    with console.capture() as capture:
        console.print(panel(of, "demo: pretrain"))
    return capture.get()


def test_what_the_task_measures_stands_beside_the_validation_loss() -> None:
    rows = (row(1), row(2, validation_loss=0.5, validation_metrics={"accuracy": 0.875}), row(3))
    assert "validation 0.500, accuracy 0.875" in state_line(snapshot(rows=rows))
    assert "validation 0.500, accuracy 0.875" in drawn(snapshot(rows=rows))


def test_the_panel_shows_all_that_a_user_waits_for() -> None:
    text = drawn(snapshot())
    for part in (
        "demo: pretrain",
        "60 of 120 steps, 50%",
        "30s left",
        "4.000",
        "from 6.950",
        "2,048 tokens/s",
        "step 40, 4s ago",
        "resumed from step 40",
        "restarts 1",
        "training",
        "Step after step.",
    ):
        assert part in text


def test_before_the_first_step_the_panel_says_what_it_waits_for() -> None:
    text = drawn(snapshot(rows=(), nodes=(node(phase="preparing", message="Training the tokenizer."), None)))
    assert "waiting for the first step" in text
    assert "Training the tokenizer." in text
    assert "not answering" in text


def test_the_panel_fits_a_narrow_terminal() -> None:
    assert max(len(line) for line in drawn(snapshot(), width=60).splitlines()) <= 60


def test_the_line_of_a_pipe_holds_the_same_numbers() -> None:
    assert state_line(snapshot()) == "step 60/120 (50%)  loss 4.000  2,048 tokens/s  eta 30s  saved step 40  restarts 1"
    rows = (*snapshot().rows[:-1], row(60, validation_loss=4.25))
    assert "loss 4.000  validation 4.250  2,048 tokens/s" in state_line(snapshot(rows=rows))


def test_lines_come_seldom_and_news_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    view = PlainView(Console(width=200), seconds=10)
    view.show(snapshot())
    view.show(snapshot(time=NOW + 5, rows=tuple(row(step) for step in range(1, 71))))
    view.show(snapshot(time=NOW + 6, news=(Happening(0, "restart", "Rank 3 was killed by signal 9."),)))
    view.show(snapshot(time=NOW + 11, rows=tuple(row(step) for step in range(1, 81))))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["step 60/120 (50%)", "Rank 3 was killed by signal 9.", "step 80/120 (67%)"]


def test_brackets_in_a_message_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    PlainView(Console(width=200)).say("see [red]this[/red]")
    assert capsys.readouterr().out == "see [red]this[/red]\n"


def test_the_live_view_lets_news_scroll_by_above_the_panel(capsys: pytest.CaptureFixture[str]) -> None:
    with LiveView(Console(width=100), "demo") as view:
        view.show(snapshot(news=(Happening(0, "restart", "Rank 3 was killed."), Happening(0, "checkpoint_committed", "step 40"))))
    text = capsys.readouterr().out
    assert "Rank 3 was killed." in text
    assert "  step 40\n" not in text


def test_a_restart_of_the_gang_is_counted_once() -> None:
    assert snapshot(nodes=(node(0, restarts=1), node(1, restarts=1), None)).restarts == 1


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (sparkline([1, 2, 3, 4, 5, 6, 7, 8], 8), "▁▂▃▄▅▆▇█"),
        (sparkline([5.0] * 100, 10), "▁" * 10),
        (sparkline([math.nan, math.inf], 10), ""),
        (sparkline([1, 1, 9, 9], 2), "▁█"),
    ],
)
def test_numbers_are_short(text: str, want: str) -> None:
    assert text == want


def test_a_verdict_is_left_to_the_last_lines_of_the_command() -> None:
    console = Console(width=200)
    view = PlainView(console)
    failed = Verdict(exit_code=2, reason="BadData", message="spec.dataset[0].source is broken.")
    with console.capture() as capture:
        view.show(snapshot(rows=(), nodes=(node(message="Waiting for all nodes."),)))
        view.show(snapshot(rows=(), nodes=(node(message=failed.message, verdict=failed),)))
    assert capture.get() == "Waiting for all nodes.\n"
