"""Where a round begins, passed from agent to ranks as a file."""

from __future__ import annotations

import json

import pytest

from llmtrain_trainer.checkpoint.position import Position
from llmtrain_trainer.data.mixing.course import Course, CourseDataset

COURSE = Course(
    seed=7, parts=(CourseDataset(digest="a", weight=0.25, key=3, before=11, rows=40), CourseDataset(digest="b", weight=1, key=0)), start=40
)
WHOLE = Position(
    round=2,
    checkpoint="step-00000010-a0-r1",
    step=10,
    directory="/run/restore/step-00000010-a0-r1",
    consumed_samples=80,
    consumed_tokens=5120,
    target_steps=100,
    course=COURSE,
)


@pytest.mark.parametrize("position", [Position(), WHOLE, Position(round=1, target_steps=5)], ids=["start", "resume", "restart"])
def test_a_position_is_read_as_it_was_written(position: Position) -> None:
    assert Position.read(position.text()) == position


def test_every_field_travels() -> None:
    said = json.loads(WHOLE.text())
    assert all(value not in (None, 0) for value in said.values())
    assert said["course"]["parts"][0] == {"digest": "a", "weight": 0.25, "key": 3, "before": 11, "rows": 40}
