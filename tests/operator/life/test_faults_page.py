"""docs/operations/faults.md tells of every reason what the operator does about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmtrain_operator.life.decide import decide
from llmtrain_operator.life.failures.failure import Failure
from llmtrain_trainer.config import ExitCode
from llmtrain_trainer.config.tables.failures import FAILURES

PAGE = Path(__file__).parents[3] / "docs" / "operations" / "faults.md"


def rows() -> dict[str, tuple[str, str, str]]:
    """Reason -> counted, node avoided, the same again."""
    table = PAGE.read_text().split("| reason | what happened |")[1].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return {reason: (counted, avoided, again) for names, _, counted, avoided, again in cells for reason in names.split(", ")}


def ended(code: int, reason: str) -> dict[str, Any]:
    said = f'{{"exitCode": {int(code)}, "reason": "{reason}", "message": "It ended."}}'
    return {"phase": "Failed", "running": False, "exit_code": int(code), "finished": 1_799_999_990.0, "termination": said}


PULL = {"phase": "Pending", "waiting": "ErrImagePull", "running": False}
SAMPLES: list[tuple[str, dict[str, Any]]] = [
    ("RankFailed", ended(ExitCode.RANK_FAILED, "RankFailed")),
    ("Hang", ended(ExitCode.HANG, "Hang")),
    ("AgentFailed", ended(ExitCode.RANK_FAILED, "AgentFailed")),
    ("PreflightFailed", ended(ExitCode.RANK_FAILED, "PreflightFailed")),
    ("PreparationFailed", ended(ExitCode.RANK_FAILED, "PreparationFailed")),
    ("Crashed", {"phase": "Failed", "running": False, "exit_code": 139}),
    ("Killed", {"phase": "Failed", "running": False, "exit_code": 137}),
    ("RefusedByNode", {"phase": "Failed", "running": False, "reason": "UnexpectedAdmissionError", "started": None}),
    ("Evicted", {"phase": "Failed", "running": False, "reason": "Evicted", "message": "The node was low on resource: memory."}),
    ("StoppedFromOutside", ended(ExitCode.SAVED, "Saved")),
    ("ImagePullFailed", PULL | {"waiting_message": "i/o timeout"}),
    ("LimitExceeded", {"phase": "Failed", "running": False, "reason": "Evicted", "message": "Usage exceeds the limit."}),
    ("ContainerNotStarted", {"phase": "Failed", "running": False, "exit_code": 128, "exit_reason": "StartError"}),
    ("PeerLost", ended(ExitCode.RANK_FAILED, "PeerLost")),
    ("PodDeleted", {"deleting": 1_800_000_020.0, "grace": 30.0}),
    ("StoreUnreachable", ended(ExitCode.STORE, "StoreUnreachable")),
    ("Fenced", ended(ExitCode.FENCED, "Fenced")),
    ("DestinationInUse", ended(ExitCode.FENCED, "DestinationInUse")),
    ("Drained", {"disruption": "EvictionByEvictionAPI"}),
    ("Preempted", {"disruption": "PreemptionByScheduler"}),
    ("BadConfig", ended(ExitCode.CONFIG, "BadConfig")),
    ("BadData", ended(ExitCode.CONFIG, "BadData")),
    ("NoGoodCheckpoint", ended(ExitCode.CONFIG, "NoGoodCheckpoint")),
    ("OutOfMemory", ended(ExitCode.OUT_OF_MEMORY, "OutOfMemory")),
    ("Diverged", ended(ExitCode.DIVERGED, "Diverged")),
    ("BadImage", PULL | {"waiting": "InvalidImageName"}),
]


@pytest.mark.parametrize(("reason", "facts"), SAMPLES, ids=[row[0] for row in SAMPLES])
def test_the_page_says_what_follows(w: Any, reason: str, facts: dict[str, Any]) -> None:
    failure = decide(w.observed(w.pod(0), w.pod(1, **facts))).failure
    assert isinstance(failure, Failure) and failure.reason == reason
    counted, avoided, again = rows()[reason]
    assert counted == ("-" if not failure.retryable else "yes" if failure.charged else "no")
    assert avoided.split(";")[0].split(",")[0] == ("yes" if failure.suspect else "no")
    assert again.startswith("ends the job at once") == (not failure.retryable)
    assert (again == "ends the job") == (failure.repeats and failure.retryable)


OF_THE_JOB = {"RestartBudgetSpent", "DeadlineExceeded"}
"""They end the job, after an attempt that has a reason of its own."""


@pytest.mark.parametrize("reason", sorted(FAILURES.keys() - OF_THE_JOB))
def test_the_page_has_the_row_of_every_reason(reason: str) -> None:
    counted, avoided, again = rows()[reason]
    row = FAILURES[reason]
    assert counted == ("-" if not row.retryable else "yes" if row.charged else "no")
    assert avoided.startswith("yes" if row.suspect else "no")
    assert again.startswith("ends the job at once" if not row.retryable else "ends the job" if row.repeats else "restarts")


def test_the_page_has_no_reason_that_does_not_exist() -> None:
    assert {*rows()} == FAILURES.keys() - OF_THE_JOB
