"""The points of the curves: all of a short run, a bounded number of a long one, its last step always."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtrain_trainer.config import Batch, Dataset, Identity, Mesh, Model, Progress, TrainerConfig, Training
from llmtrain_trainer.report import figures
from llmtrain_trainer.report.facts import Event, Facts
from llmtrain_trainer.report.figures import _series, _smooth, loss_figure, small_figure, svg
from llmtrain_trainer.report.words import clock_text, loss_text, percent, ratio_text

CONFIG = TrainerConfig(
    job=Identity(name="demo"),
    task="pretrain",
    engine="native",
    device="cpu",
    model=Model(config={"model_type": "llama"}),
    dataset=(Dataset(source="file:///text.jsonl"),),
    training=Training(global_batch_size=8, sequence_length=16, max_steps=10),
    mesh=Mesh(stages=((0, 1),)),
    batch=Batch(global_size=8, micro_size=1, accumulation=8),
)


def row(step: int, **changes: Any) -> Progress:
    facts: dict[str, Any] = {"loss": 5.0 / step, "learning_rate": 0.1, "step_seconds": 1.0, "tokens_per_second": 128.0, **changes}
    return Progress(time=float(step), step=step, target_steps=99, consumed_samples=8 * step, consumed_tokens=128 * step, **facts)


def facts(rows: list[Progress], **changes: Any) -> Facts:
    given_: dict[str, Any] = {"events": (), "verdict": None, "notices": (), "unigram_entropy": None, **changes}
    return Facts(config=CONFIG, rows=tuple(rows), **given_)


def event(time: float, kind: str, step: int | None = None, **detail: Any) -> Event:
    return Event(time=time, kind=kind, message="", node=0, step=step, detail=detail)


@pytest.mark.parametrize("count", [1, 2, 20, 21, 39, 40, 41, 103])
def test_a_curve_has_a_bounded_number_of_points_and_ends_at_the_last_step(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(figures, "MOST_POINTS", 20)
    steps, values = _series(facts([row(step) for step in range(1, count + 1)]), "loss")
    assert len(steps) == len(values) <= 20 + 1
    assert (steps[0], steps[-1]) == (1, count) and steps == sorted(set(steps))
    assert count > 20 or len(steps) == count


def test_a_step_without_a_value_is_no_point() -> None:
    rows = [row(1), row(2, loss=float("nan")), row(3, grad_norm=2.0)]
    assert _series(facts(rows), "loss") == ([1, 3], [5.0, 5.0 / 3])
    assert _series(facts(rows), "grad_norm") == ([3], [2.0])


@given(st.lists(st.floats(0, 100), min_size=1, max_size=300))
def test_the_smoothed_curve_begins_at_the_first_value_and_stays_within_those_so_far(values: list[float]) -> None:
    smooth = _smooth(values)
    assert smooth[0] == pytest.approx(values[0])
    for at, value in enumerate(smooth):
        assert min(values[: at + 1]) - 1e-6 <= value <= max(values[: at + 1]) + 1e-6


def test_a_constant_stays_what_it_is_when_it_is_smoothed() -> None:
    assert _smooth([3.0] * 40) == pytest.approx([3.0] * 40)


def test_restarts_and_evaluations_stand_at_their_steps() -> None:
    found = facts(
        [row(step, **({"validation_loss": 1.5} if step == 4 else {})) for step in range(1, 9)],
        events=(event(3.0, "restart", 3), event(3.1, "restart", 3), event(6.0, "hang", 6), event(7.0, "restart"), event(8.0, "notice", 8)),
        unigram_entropy=4.0,
    )
    (axes,) = loss_figure(found).axes
    labels = [line.get_label() for line in axes.get_lines()]
    assert [label for label in labels if not label.startswith("_")] == [
        "training", "validation", "entropy of the frequencies of targets", "restart",
    ]  # fmt: skip
    upright = [
        line.get_xdata()[0] for line in axes.get_lines() if len(line.get_xdata()) == 2 and line.get_xdata()[0] == line.get_xdata()[1]
    ]
    assert upright == [3, 6]
    (dots,) = [line for line in axes.get_lines() if line.get_label() == "validation"]
    assert (list(dots.get_xdata()), list(dots.get_ydata())) == ([4], [1.5])


def test_a_figure_is_one_element_of_html() -> None:
    text = svg(small_figure(facts([row(1), row(2)]), "learning_rate", "#000000"))
    assert text.startswith("<svg") and text.rstrip().endswith("</svg>") and "<?xml" not in text


def test_steps_that_were_lost_and_checkpoints_that_failed_are_counted_from_events() -> None:
    found = facts(
        [row(1)],
        events=(
            event(1.0, "checkpoint_committed", 4),
            event(2.0, "restore", 4, lost_steps=3),
            event(3.0, "restore", 4, lost_steps=2),
            event(4.0, "checkpoint_rejected", 8),
            event(5.0, "upload_failed"),
            event(6.0, "hang", 9),
        ),
    )
    assert (found.lost_steps, len(found.commits), len(found.restarts)) == (5, 1, 1)
    assert [each.kind for each in found.checkpoint_failures] == ["checkpoint_rejected", "upload_failed"]


def test_a_run_lasts_from_the_start_of_its_first_step_or_event() -> None:
    assert (facts([]).start, facts([]).seconds) == (0.0, 0.0)
    found = facts([row(10, step_seconds=4.0), row(20)], events=(event(8.0, "start"), event(30.0, "end")))
    assert (found.start, found.seconds) == (6.0, 24.0)
    assert facts([row(10, step_seconds=4.0)]).seconds == 4.0


def test_the_median_leaves_the_first_step_out_where_there_are_more() -> None:
    rows = [row(1, step_seconds=90.0), row(2, step_seconds=1.0), row(3, step_seconds=2.0)]
    assert facts(rows).median_of("step_seconds") == 1.5
    assert facts(rows[:1]).median_of("step_seconds") == 90.0
    assert facts(rows).median_of("mfu") is None and facts([]).median_of("loss") is None


def test_measures_are_those_of_the_newest_evaluation() -> None:
    rows = [row(2, validation_metrics={"accuracy": 0.5}), row(4, validation_metrics={"accuracy": 0.75, "odd": float("nan")}), row(5)]
    assert facts(rows).validation_metrics == (("accuracy", 4, 0.75),)
    assert facts(rows[2:]).validation_metrics == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (clock_text(86_399.9), "23:59:59"),
        (loss_text(None), "-"),
        (loss_text(row(1, loss=float("inf"))), "not finite"),
        (loss_text(row(2)), "2.500"),
        (percent(None), "-"),
        (percent(0.0), "0.0%"),
        (percent(0.4125), "41.2%"),
        (ratio_text(96, 100), "96%"),
        (ratio_text(0, 100), "0%"),
        (ratio_text(5, 0), "-"),
        (ratio_text(5, None), "-"),
        (ratio_text(None, 5), "-"),
    ],
)
def test_a_number_that_is_missing_is_a_dash(text: str, expected: str) -> None:
    assert text == expected
