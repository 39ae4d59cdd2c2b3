"""What may be deleted, as properties of the pure decision."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llmtrain_trainer.checkpoint.manifest import Name
from llmtrain_trainer.checkpoint.retention import expired

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
    assert milestones <= left
    assert len(left - milestones) <= keep


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
    for text in ("export", "step-1-a0-r0", "step-00000001-a0", "step-00000001-a0-r0.part", "xstep-00000001-a0-r0"):
        assert Name.parse(text) is None
