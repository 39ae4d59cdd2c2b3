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
    assert {"RankFailed", "GangIncomplete", "LimitExceeded", "PreflightFailed", "Unschedulable", "GaveWay", "Backoff", "Fenced"} <= {
        *REASONS
    }


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_says_what_to_do(reason: str) -> None:
    said = remedy(reason, "demo", 3)
    assert said is not None and said.endswith(".") and "{" not in said
