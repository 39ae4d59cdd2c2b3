"""Two jobs that name one destination: the second waits, and is looked at as soon as the first lets go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llmtrain_operator.kube.jobs.checkpoint_owners import LATELY, DestinationOwners
from llmtrain_operator.life.decide import decide
from llmtrain_operator.life.decision import Action, Decision
from llmtrain_operator.life.destinations import Contender
from llmtrain_operator.life.from_objects import job_of
from llmtrain_operator.life.observed import Observed

FIRST, SECOND, ELSEWHERE = ("team", "first"), ("team", "second"), ("other", "third")
CREATE = Decision(action=Action.CREATE, phase="Starting", reason="CreatingPods", message="", attempt=1, create=(0,))
RESTARTS = {"phase": "Restarting", "attempt": 1, "endedAttempt": 1}


def seen(
    key: tuple[str, str], destination: str | None = "s3://bucket/run", suspend: bool = False, exports: str | None = None, **status: Any
) -> Observed:
    """A job without pods."""
    spec = {
        "model": {"source": "hf://acme/tiny"},
        "dataset": [{"source": "hf://acme/text"}],
        "training": {"globalBatchSize": 8, "sequenceLength": 64, "maxSteps": 1},
        **({"checkpoint": {"destination": destination}} if destination else {}),
        **({"output": {"destination": exports}} if exports else {}),
        "suspend": suspend,
    }
    envelope = {"apiVersion": "llmtrain.io/v1alpha1", "kind": "LLMTrainJob", "spec": spec, "status": status}
    return Observed(now=100.0, job=job_of({**envelope, "metadata": {"namespace": key[0], "name": key[1], "uid": key[1]}}))


def name(other: Contender | None) -> str | None:
    return other and other.name


@pytest.fixture
def added() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def destinations(added: list[tuple[str, str]]) -> DestinationOwners:
    """The first job is about to create its pods."""
    made = DestinationOwners(added.append)
    made.note(FIRST, seen(FIRST), CREATE)
    return made


def waits(destinations: DestinationOwners, key: tuple[str, str] = SECOND) -> None:
    job = replace(seen(key), writer=destinations.writer(key, seen(key)))
    decision = decide(job)
    assert (decision.phase, decision.reason, decision.action) == ("Pending", "DestinationInUse", Action.NOTHING)
    whose = "team/first" if key[0] == "team" else "a job of another namespace"
    assert (
        f"Waiting until {whose} is over or suspended: it writes to the place of spec.checkpoint.destination s3://bucket/run too"
        in decision.message
    )
    destinations.note(key, job, decision)


def test_the_second_job_waits_from_any_namespace(destinations: DestinationOwners) -> None:
    waits(destinations)
    waits(destinations, ELSEWHERE)
    assert name(destinations.writer(FIRST, seen(FIRST))) is None
    assert name(destinations.writer(SECOND, seen(SECOND, "s3://bucket/run/"))) == "team/first", "a slash at the end names the same place"
    assert name(destinations.writer(SECOND, seen(SECOND, "s3://bucket/other"))) is None


@pytest.mark.parametrize(
    "same",
    ["s3://bucket//run", "s3://bucket/run//", "s3://bucket/run?1", "s3://bucket/run#1", "s3://BUCKET/run", "s3://bucket/./a/../run/."],
)
def test_one_place_under_another_name_is_in_use_too(destinations: DestinationOwners, same: str) -> None:
    assert name(destinations.writer(SECOND, seen(SECOND, same))) == "team/first"


def test_a_job_whose_pods_wait_for_a_node_leaves_its_destination_to_one_that_waits_for_it(added: list[tuple[str, str]]) -> None:
    made = DestinationOwners(added.append)
    made.note(FIRST, seen(FIRST), CREATE)
    assert not made.contested(FIRST, seen(FIRST))
    waits(made)
    assert made.contested(FIRST, seen(FIRST)) and not made.contested(SECOND, seen(SECOND))
    made.note(FIRST, seen(FIRST), Decision(phase="Pending", reason="DestinationInUse", message="", ends=1))
    assert added == [SECOND] and name(made.writer(SECOND, seen(SECOND))) is None
    made.note(SECOND, seen(SECOND), CREATE)
    assert name(made.writer(FIRST, seen(FIRST))) == "team/second"
    assert not made.contested(SECOND, seen(SECOND)), "who left it does not press at once"


def test_a_job_of_another_namespace_whose_pods_do_not_run_holds_nothing_for_long(destinations: DestinationOwners) -> None:
    later = replace(seen(ELSEWHERE), now=100.0 + LATELY)
    assert name(destinations.writer(ELSEWHERE, seen(ELSEWHERE))) == "a job of another namespace"
    assert name(destinations.writer(ELSEWHERE, later)) is None
    assert name(destinations.writer(SECOND, replace(seen(SECOND), now=100.0 + LATELY))) == "team/first"


def test_a_claim_is_another_one_in_another_namespace(destinations: DestinationOwners) -> None:
    destinations.note(FIRST, seen(FIRST, "pvc://disk/run"), CREATE)
    assert name(destinations.writer(SECOND, seen(SECOND, "pvc://disk/run"))) == "team/first"
    assert name(destinations.writer(ELSEWHERE, seen(ELSEWHERE, "pvc://disk/run"))) is None


@pytest.mark.parametrize("end", [{"phase": "Failed"}, {"phase": "Complete"}, {"suspend": True, "phase": "Suspended"}])
def test_who_waits_is_looked_at_when_the_destination_is_free(
    destinations: DestinationOwners, added: list[tuple[str, str]], end: dict[str, Any]
) -> None:
    waits(destinations)
    destinations.note(FIRST, seen(FIRST, **(RESTARTS | end)))
    assert added == [SECOND] and name(destinations.writer(SECOND, seen(SECOND))) is None
    assert decide(seen(SECOND)).action is Action.CREATE


def test_a_job_that_restarts_keeps_its_destination(destinations: DestinationOwners, added: list[tuple[str, str]]) -> None:
    waits(destinations)
    destinations.note(FIRST, seen(FIRST, **RESTARTS))
    assert added == []
    waits(destinations)


def test_a_job_that_is_gone_leaves_its_destination_to_the_next(destinations: DestinationOwners, added: list[tuple[str, str]]) -> None:
    waits(destinations)
    destinations.forget(FIRST)
    destinations.forget(FIRST)
    assert added == [SECOND] and name(destinations.writer(SECOND, seen(SECOND))) is None


@pytest.mark.parametrize(
    ("mine", "exports", "field"),
    [
        ("s3://bucket/mine", "s3://bucket/models", "output.destination"),
        (None, "s3://bucket//models/", "output.destination"),
        ("s3://bucket/mine", "s3://bucket/first", "output.destination"),
        ("s3://bucket/mine", "s3://bucket/first/export", "output.destination"),
        (None, "s3://bucket", "output.destination"),
        ("s3://bucket/models", None, "checkpoint.destination"),
        ("s3://bucket/models/mine", None, "checkpoint.destination"),
    ],
)
def test_exports_wait_for_who_writes_there_inside_it_or_around_it(mine: str | None, exports: str | None, field: str) -> None:
    added: list[tuple[str, str]] = []
    made = DestinationOwners(added.append)
    made.note(FIRST, seen(FIRST, "s3://bucket/first", exports="s3://bucket/models"), CREATE)
    second = seen(SECOND, mine, exports=exports)
    waiting = replace(second, writer=made.writer(SECOND, second))
    decision = decide(waiting)
    assert (decision.phase, decision.reason, decision.action) == ("Pending", "DestinationInUse", Action.NOTHING)
    assert "Waiting until team/first is over" in decision.message and f"With another {field} the job starts" in decision.message
    made.note(SECOND, waiting, decision)
    assert made.contested(FIRST, seen(FIRST, "s3://bucket/first", exports="s3://bucket/models"))
    made.forget(FIRST)
    assert added == [SECOND] and made.writer(SECOND, second) is None


@pytest.mark.parametrize(
    ("mine", "exports"),
    [
        ("s3://bucket/mine", "s3://bucket/mine/export"),
        ("s3://bucket/mine", "s3://bucket/models-2"),
        ("s3://bucket/firs", None),
        (None, None),
    ],
)
def test_jobs_that_write_beside_each_other_wait_for_nothing(mine: str | None, exports: str | None) -> None:
    made = DestinationOwners(lambda _: None)
    made.note(FIRST, seen(FIRST, "s3://bucket/first", exports="s3://bucket/models"), CREATE)
    assert made.writer(SECOND, seen(SECOND, mine, exports=exports)) is None
