"""`llmtrain checkpoints JOB`: the store of a job on a cluster, or what its status knows."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from llmtrain_operator.local import trainer

Run = Callable[..., Any]
KNOWN = {"name": "step-00000040-a3-r1", "step": 40, "uri": "s3://b/x", "bytes": 2048, "time": "2027-01-15T08:00:00Z"}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What the trainer was asked; it cannot read the store."""
    found: list[tuple[str, str]] = []

    def checkpoints(verb: str, destination: str) -> list[dict[str, Any]]:
        found.append((verb, destination))
        raise trainer.TrainerError(74, "s3://bucket/demo: no credentials.")

    monkeypatch.setattr(trainer, "checkpoints", checkpoints)
    return found


def test_the_store_of_the_job_is_read_and_without_credentials_the_status_speaks(
    api: Any, llmtrain: Run, asked: list[tuple[str, str]]
) -> None:
    api.add("demo", spec={"checkpoint": {"destination": "s3://bucket/demo"}}, status={"checkpoint": KNOWN})
    said = llmtrain("checkpoints", "demo", "-o", "json")
    assert asked == [("list", "s3://bucket/demo")]
    (row,) = json.loads(said.out)
    assert (said.code, row["step"], row["attempt"], row["bytes"]) == (0, 40, 3, 2048)
    assert said.err == "s3://bucket/demo: no credentials. Showing the last checkpoint recorded in the job's status.\n"
    assert "step-00000040-a3-r1" in llmtrain("checkpoints", "list", "demo").out


def test_a_claim_is_not_reached_from_outside(api: Any, llmtrain: Run, asked: list[tuple[str, str]]) -> None:
    api.add("demo", spec={"checkpoint": {"destination": "pvc://runs/demo"}}, status={"checkpoint": KNOWN})
    said = llmtrain("checkpoints", "demo")
    assert said.code == 0 and not asked and said.err.startswith("pvc://runs/demo can be reached from inside the cluster only.")


def test_what_cannot_be_read_is_not_verified(api: Any, llmtrain: Run, asked: list[tuple[str, str]]) -> None:
    api.add("demo", spec={"checkpoint": {"destination": "s3://bucket/demo"}}, status={"checkpoint": KNOWN})
    assert llmtrain("checkpoints", "verify", "demo").code == 74


def test_a_job_that_keeps_none_says_so(api: Any, llmtrain: Run) -> None:
    api.add("demo")
    said = llmtrain("checkpoints", "demo")
    assert (said.code, said.err) == (2, "demo keeps no checkpoints: spec.checkpoint is not set.\n")


def test_one_of_name_manifest_and_store_is_asked_for(llmtrain: Run) -> None:
    said = llmtrain("checkpoints", "list", "demo", "--destination", "s3://b/x")
    assert said.code == 2 and said.err.startswith(
        "Give exactly one of these: the name of the job, its manifest with -f, or the store with --destination"
    )
