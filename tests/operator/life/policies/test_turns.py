"""Turns of gangs that wait for nodes, at the edges of their conditions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.operator.life.policies.table import FRESH, NOW, view, waiting

from llmtrain_operator.life.observed import QueuePlace, Rival
from llmtrain_operator.life.policies import placement


def rival(key: str = "team/other", since: float | None = NOW - 60, **changes: Any) -> Rival:
    return replace(Rival(key=key, placing=False, waiting_since=since, shape="other shape", size=2), **changes)


def test_a_gang_of_one_pod_takes_no_turn_and_waits_for_none(w: Any) -> None:
    one = w.job(w.status(**FRESH), spec=w.spec(resources={"nodes": 1}))
    assert placement.not_its_turn(view(w.nothing(job=one, rivals=(rival(placing=True),)))) is None
    placing = w.observed(w.pending(0, node=None), job=w.job(w.status(phase="Starting"), spec=w.spec(resources={"nodes": 1})), agents={})
    assert placement.rival_of(placing) is None


@pytest.mark.parametrize("gang", ["kueue", "volcano", "coscheduling", "none"])
def test_where_another_admits_gangs_there_are_no_turns(w: Any, gang: str) -> None:
    assert placement.rival_of(waiting(w, gang=gang)) is None
    assert placement.not_its_turn(view(w.nothing(job=w.job(w.status(**FRESH)), gang=gang, rivals=(rival(placing=True),)))) is None
    assert placement.gives_way(view(waiting(w, 1e6, gang=gang, rivals=(rival(),)))) is None


@pytest.mark.parametrize(("key", "named"), [("team/other", "other"), ("ops/other", "a job of another namespace")])
def test_the_job_that_goes_first_is_named_only_in_its_own_namespace(w: Any, key: str, named: str) -> None:
    said = placement.not_its_turn(view(w.nothing(job=w.job(w.status(**FRESH)), rivals=(rival(key, placing=True),))))
    assert said is not None and f"the pods of {named} are placed first" in said.message


def test_its_own_entry_among_the_rivals_is_no_rival(w: Any) -> None:
    fresh = w.job(w.status(**FRESH))
    assert placement.not_its_turn(view(w.nothing(job=fresh, rivals=(rival("team/demo", placing=True),)))) is None
    assert placement.eligible(view(waiting(w, rivals=(rival("team/demo"),)))) == []


@pytest.mark.parametrize(
    ("changes", "may"),
    [
        ({}, True),
        ({"waiting_since": None}, False),
        ({"place": QueuePlace(after=NOW)}, True),
        ({"place": QueuePlace(after=NOW + 0.1)}, False),
        ({"shape": "mine", "size": 1}, False),
        ({"shape": "mine", "size": 5}, False),
    ],
)
def test_a_gang_without_nodes_gives_way_only_to_what_may_fit(w: Any, changes: dict[str, Any], may: bool) -> None:
    observed = waiting(w)
    changes |= {"shape": placement.shape_of(observed)} if changes.get("shape") == "mine" else {}
    found = placement.eligible(view(replace(observed, rivals=(rival(**changes),))))
    assert bool(found) is may


@pytest.mark.parametrize(("size", "may"), [(1, True), (2, False), (3, False)])
def test_a_gang_that_holds_nodes_gives_way_to_a_smaller_one_of_its_shape(w: Any, size: int, may: bool) -> None:
    part = w.observed(w.pending(0), w.pending(1, node=None), job=w.job(w.status(phase="Starting")), agents={})
    found = placement.eligible(view(replace(part, rivals=(rival(shape=placement.shape_of(part), size=size),))))
    assert bool(found) is may


UNSCHEDULABLE = {"unschedulable": "0/2 nodes are available"}


@pytest.mark.parametrize(
    ("first", "second", "patience"),
    [
        ({"node": None}, {"node": None}, placement.UNHEARD_PATIENCE),
        ({"node": None, **UNSCHEDULABLE}, {"node": None}, placement.PLACING_PATIENCE),
        ({"node": None, **UNSCHEDULABLE}, {"node": None, **UNSCHEDULABLE}, placement.UNPLACED_PATIENCE),
        ({}, {"node": None}, placement.PLACING_PATIENCE),
        ({}, {"node": None, **UNSCHEDULABLE}, placement.PART_PLACED_PATIENCE),
        ({"node": None, **UNSCHEDULABLE, "nominated": True}, {"node": None, **UNSCHEDULABLE}, placement.PLACING_PATIENCE),
    ],
    ids=["unheard", "one answer", "none fits", "part placed", "part fits nowhere", "preempting"],
)
def test_how_long_a_gang_waits_for_nodes_depends_on_what_the_scheduler_said(
    w: Any, first: dict[str, Any], second: dict[str, Any], patience: float
) -> None:
    def after(age: float) -> Any:
        pods = [w.pending(index, created=NOW - age, **changes) for index, changes in enumerate((first, second))]
        observed = w.observed(*pods, job=w.job(w.status(phase="Starting")), agents={}, rivals=(rival(size=1),))
        return placement.gives_way(view(observed))

    assert after(patience - 0.5) is None
    said = after(patience)
    assert said is not None and said.reason == "GaveWay" and said.ends == 1 and "Giving way to other:" in said.message


def test_a_gang_with_all_its_nodes_gives_way_to_nobody(w: Any) -> None:
    placed = w.observed(w.pending(0), w.pending(1), job=w.job(w.status(phase="Starting")), agents={}, rivals=(rival(),))
    assert placement.gives_way(view(placed)) is None


@given(
    places=st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.floats(0, 100)), min_size=2, max_size=6),
)
def test_the_order_of_turns_is_untried_then_the_namespace_served_longest_ago_then_the_longest_wait(
    places: list[tuple[bool, int, float]],
) -> None:
    rivals = [
        rival(f"n/{index}", since=NOW - waited, place=QueuePlace(after=NOW + 1 if tried else 0.0, served=served))
        for index, (tried, served, waited) in enumerate(places)
    ]
    found = [int(each.key[2:]) for each in sorted(rivals, key=lambda each: placement.rank(each, NOW))]
    wanted = sorted(range(len(places)), key=lambda index: (places[index][0], places[index][1], NOW - places[index][2], str(index)))
    assert found == wanted


def test_pods_with_equal_needs_have_one_shape_however_many_there_are(w: Any) -> None:
    def shape(**sections: Any) -> str:
        return placement.shape_of(w.nothing(job=w.job(spec=w.spec(**sections))))

    assert shape() == shape(resources={"nodes": 8}) != ""
    differ = [{"resources": {"nodes": 2, "memory": "8Gi"}}, {"scheduling": {"nodeSelector": {"pool": "a"}}}]
    differ += [{"dataset": [{"source": "pvc://corpus/text.jsonl"}]}]
    assert len({shape(), *(shape(**each) for each in differ)}) == 4
    assert placement.shape_of(w.nothing(job=replace(w.job(), spec=None))) == ""
