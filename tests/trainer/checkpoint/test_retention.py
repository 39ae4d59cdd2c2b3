"""What may be deleted, as properties of the pure decision."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtrain_trainer.checkpoint.manifest import Name
from llmtrain_trainer.checkpoint.retention import expired, for_room

NAMES = st.builds(Name, attempt=st.integers(0, 3), round=st.integers(0, 3), step=st.integers(0, 60))
FOUND = st.dictionaries(NAMES, st.booleans(), max_size=30)
KEEP = st.integers(2, 6)
EVERY = st.none() | st.integers(1, 20)


def committed(found: dict[Name, bool]) -> list[Name]:
    return sorted(name for name, sealed in found.items() if sealed)


@given(FOUND, KEEP, EVERY)
def test_the_newest_committed_ones_always_stay(found: dict[Name, bool], keep: int, every: int | None) -> None:
    gone = expired(found, keep=keep, keep_every_steps=every)
    assert not set(committed(found)[-keep:]) & set(gone)


@given(FOUND, KEEP, EVERY)
def test_nothing_is_deleted_unless_something_newer_is_committed(found: dict[Name, bool], keep: int, every: int | None) -> None:
    for name in expired(found, keep=keep, keep_every_steps=every):
        assert any(other > name for other in committed(found))


@given(FOUND, KEEP, EVERY)
def test_no_more_than_asked_for_and_the_milestones_stay(found: dict[Name, bool], keep: int, every: int | None) -> None:
    left = set(committed(found)) - set(expired(found, keep=keep, keep_every_steps=every))
    milestones = {name for name in committed(found) if every and name.step % every == 0}
    ahead = {name for name in committed(found) if name.step > committed(found)[-1].step}
    assert milestones | ahead <= left
    assert len(left - milestones - ahead) <= keep


@given(FOUND, KEEP, EVERY)
def test_one_of_a_later_step_than_the_newest_is_never_deleted(found: dict[Name, bool], keep: int, every: int | None) -> None:
    gone = expired(found, keep=keep, keep_every_steps=every)
    assert all(name.step <= committed(found)[-1].step for name in gone if found[name])


@given(FOUND, KEEP, st.sets(NAMES, max_size=20))
def test_what_is_in_doubt_pushes_out_none_that_is_not(found: dict[Name, bool], keep: int, doubtful: set[Name]) -> None:
    left = set(committed(found)) - set(expired(found, keep=keep, keep_every_steps=None, doubtful=doubtful))
    assert set([name for name in committed(found) if name not in doubtful][-keep:]) <= left


@given(FOUND, EVERY, st.sets(NAMES, max_size=20))
def test_for_room_the_newest_good_one_stays_and_what_is_ahead_of_it(
    found: dict[Name, bool], every: int | None, doubtful: set[Name]
) -> None:
    gone = for_room(found, keep_every_steps=every, doubtful=doubtful)
    good = [name for name in committed(found) if name not in doubtful]
    if gone is not None:
        assert found[gone] and gone < good[-1] and gone.step <= good[-1].step and not (every and gone.step % every == 0)


def test_for_room_all_but_one_may_go_and_then_no_more() -> None:
    found = {Name(1, 1, step): True for step in (2, 4, 6)}
    for step in (2, 4):
        gone = for_room(found, keep_every_steps=None)
        assert gone is not None and gone.step == step
        del found[gone]
    assert for_room(found, keep_every_steps=None) is None


@given(FOUND, KEEP, st.sets(NAMES))
def test_what_is_on_its_way_stays(found: dict[Name, bool], keep: int, busy: set[Name]) -> None:
    uncommitted = {name for name, sealed in found.items() if not sealed}
    assert not uncommitted & busy & set(expired(found, keep=keep, keep_every_steps=None, busy=busy))


@given(FOUND, EVERY)
def test_two_stay_whatever_is_asked_for(found: dict[Name, bool], every: int | None) -> None:
    left = set(committed(found)) - set(expired(found, keep=1, keep_every_steps=every))
    assert len(left) >= min(2, len(committed(found)))


@given(NAMES)
def test_a_name_is_read_back_as_it_was_written(name: Name) -> None:
    assert Name.parse(str(name)) == name


def test_what_is_no_name_is_none() -> None:
    for text in ("export", "step-1-a0-r0", "step-00000001-a0", "step-00000001-a0-r0.part", "xstep-00000001-a0-r0", "step-00000001-a01-r0"):
        assert Name.parse(text) is None


@pytest.mark.parametrize("digits", ["9" * 5000, "٣" * 8, "²" * 8])
def test_whatever_somebody_calls_a_key_it_is_no_reason_to_fail(digits: str) -> None:
    for text in (f"step-{digits}-a0-r0", f"step-00000001-a{digits}-r0", f"step-00000001-a0-r{digits}"):
        assert Name.parse(text) is None


def test_an_attempt_beyond_all_ours_is_none_of_ours() -> None:
    assert Name.parse("step-00000001-a1000000-r0") is not None
    assert Name.parse("step-00000001-a1000001-r0") is None
