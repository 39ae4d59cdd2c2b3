"""Evidence -> Failure: what ended an attempt, which pod failed first, and whether a restart may help.

Each rule looks at one pod and its node; the first rule that returns a failure decides for that pod. Among the pods the earliest failure
wins, but causes come before consequences: a pod that lost its peers or is merely missing yields to one that names a cause.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from llmtrain_operator.api.job.status import LastFailure as Recorded
from llmtrain_operator.life.failures import ended, taken
from llmtrain_operator.life.failures.failure import Evidence, Failure, Rule
from llmtrain_trainer.config import ExitCode

RULES: tuple[Rule, ...] = (
    taken.evicted,
    ended.said_it_itself,
    ended.out_of_memory,
    taken.node_lost,
    taken.disrupted,
    taken.shut_down,
    taken.refused_by_node,
    ended.never_began,
    ended.ended_without_verdict,
    taken.deleted,
    ended.no_image,
    ended.failed_somehow,
)
"""In order."""


def diagnose(evidence: Iterable[Evidence], missing: Iterable[str], now: float) -> Failure | None:
    """The first failure of an attempt, or None. `missing`: names of pods that existed and are gone."""
    found = [failure for each in evidence if (failure := of_pod(each))]
    found += [_gone(name, now) for name in missing]
    return min(found, key=lambda failure: (failure.weight, failure.time, failure.pod or ""), default=None)


def of_pod(evidence: Evidence) -> Failure | None:
    """The failure of this pod by the first rule that applies; None if the pod has not failed."""
    if evidence.pod.exit_code == ExitCode.DONE or (evidence.pod.phase == "Succeeded" and evidence.pod.exit_code is None):
        return None
    return next((failure for rule in RULES if (failure := rule(evidence))), None)


def _gone(name: str, now: float) -> Failure:
    return Failure(reason="PodDeleted", message=f"Pod {name} is gone: it was deleted.", time=now, pod=name, weight=1)


def same_again(failure: Failure, step: int | None, before: Recorded | None) -> bool:
    """Whether the previous attempt failed in the same way, and training got no further since. `step`: newest step done."""
    if before is None or not failure.repeats or failure.reason != before.reason:
        return False
    no_further = (step or 0) <= (before.step or 0)
    return no_further and _essence(failure.message, failure.node) == _essence(before.message, before.node)


def _essence(message: str, node: str | None) -> str:
    """The message without the parts that differ between attempts: names of pods and nodes, numbers."""
    text = message.replace(node, "it") if node else message
    return re.sub(r"[0-9]+", "#", re.sub(r"\S+-a[0-9]+-[0-9]+", "pod", text))
