"""Every reason that a person can meet has a sentence on what to do about it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

import llmtrain_operator.life
import llmtrain_trainer.agent
from llmtrain_operator.api.job import Phase
from llmtrain_operator.life.failures.remedies import remedy
from llmtrain_trainer.config import ExitCode
from llmtrain_trainer.config.tables.failures import FAILURES, RANK_FAILURES, consequences, reason_of

LIFE, AGENT = Path(llmtrain_operator.life.__file__).parent, Path(llmtrain_trainer.agent.__file__).parent
WHERE = [
    path
    for path in (*sorted(LIFE.rglob("*.py")), *sorted(AGENT.rglob("*.py")))
    if path.stem not in ("from_objects", "observed", "ledger", "status", "remedies", "catalog")
]
HEALTHY = {"CreatingPods", "Scheduling", "CreatingContainers", "Preparing", "Training", "Saving", "Exporting", "Finishing", "Deleting"}
"""Nothing is the matter, and nothing is to be done."""

THEIRS = {
    "True",
    "False",
    "ErrImagePull",
    "ImagePullBackOff",
    "RegistryUnavailable",
    "ImageInspectError",
    "SignatureValidationFailed",
    "InvalidImageName",
    "ErrImageNeverPull",
    "StartError",
    "ContainerCannotRun",
    "PreemptionByScheduler",
    "EvictionByEvictionAPI",
    "DeletionByTaintManager",
    "DeletionByPodGC",
    "TerminationByKubelet",
    "FailedMount",
    "FailedAttachVolume",
    "FailedMapVolume",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "Image",
    "Succeeded",
    "Terminated",
    "Shutdown",
    "NodeShutdown",
    "Preempting",
}
"""Words of Kubernetes."""


def words(path: Path) -> Iterator[str]:
    """CamelCase words that stand alone in quotes."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"(?:[A-Z][a-z]+)+", node.value):
            yield node.value


REASONS = sorted({word for path in WHERE for word in words(path)} - HEALTHY - THEIRS - ({*get_args(Phase)} - {"Queued", "Suspended"}))


def test_the_reasons_are_found_where_they_are_made() -> None:
    assert {"PeerLost", "GangIncomplete", "LimitExceeded", "PreflightFailed", "Unschedulable", "GaveWay", "Backoff", "Fenced"} <= {*REASONS}


AGENTS_REASONS = sorted({word for path in sorted(AGENT.rglob("*.py")) for word in words(path)} - THEIRS - {"Complete"})


@pytest.mark.parametrize("reason", AGENTS_REASONS)
def test_every_reason_of_an_agent_has_its_row_and_its_exit_code(reason: str) -> None:
    assert FAILURES[reason].exit_code is not None


@pytest.mark.parametrize("reason", FAILURES)
def test_every_reason_that_is_told_of_is_given_somewhere(reason: str) -> None:
    code = FAILURES[reason].exit_code
    by_rank = {row.reason for row in RANK_FAILURES.values()}
    assert reason in {*REASONS, *by_rank} or (code is not None and reason == reason_of(code))


@pytest.mark.parametrize("code", [code for code in ExitCode if code != ExitCode.DONE])
def test_every_exit_code_of_an_agent_means_a_reason(code: ExitCode) -> None:
    assert FAILURES[reason_of(code)].exit_code == code


def test_a_reason_that_does_not_belong_to_its_exit_code_follows_the_code() -> None:
    assert not consequences("PreparationFailed", ExitCode.CONFIG).retryable
    assert consequences("PreparationFailed", ExitCode.RANK_FAILED).retryable
    assert consequences("Unheard", 99) == FAILURES["AgentFailed"]


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_says_what_to_do(reason: str) -> None:
    said = remedy(reason, "demo", 3)
    assert said is not None and said.endswith(".") and "{" not in said
