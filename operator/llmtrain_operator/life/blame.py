"""What a failure means in its gang: one pod alone cannot tell who told it to stop, or whom it waited for.

Pods of a gang stop together when one of them is told to. Only the whole gang shows whether anybody told it, or whether it ever was whole.
"""

from __future__ import annotations

from dataclasses import replace

from llmtrain_operator.life.attempt import AttemptView
from llmtrain_operator.life.failures.failure import Failure, called
from llmtrain_operator.life.observed import STOPPED, Pod

TOGETHER = 60.0
"""Seconds for which all pods of a gang must have run together; otherwise a pod that lost its peers never had any."""

MOST_SAID = 500


def in_its_gang(gang: AttemptView, failure: Failure | None) -> Failure | None:
    """The failure, corrected by the evidence of the whole gang."""
    if failure is None:
        return None
    return _waited_in_vain(gang, failure) or _told_by_nobody(gang, failure) or failure


def _waited_in_vain(gang: AttemptView, failure: Failure) -> Failure | None:
    """An agent gave up waiting for pods that had no node, or were not started: nothing that ran has failed."""
    if failure.reason != "PeerLost" or (gang.missing and gang.was_whole):
        return None
    late = [pod for pod in gang.pods.values() if pod.started is None or failure.time - pod.started < TOGETHER]
    whole = not gang.missing and all(pod.started is not None for pod in gang.pods.values())
    if whole and (gang.trained or not late):
        return None
    here = gang.size - len(late) - len(gang.missing)
    message = f"{here} of {gang.size} pods waited for the others until their agents gave up: {_lacks(gang, late, failure.time)}."
    return replace(called(failure, "GangIncomplete"), message=message)


def _lacks(gang: AttemptView, late: list[Pod], failed: float) -> str:
    if not late:
        return f"{len(gang.missing)} were not created"
    first = min(late, key=lambda pod: (pod.node is not None, pod.index))
    if first.node is None or (
        first.placed is not None and first.placed > failed - TOGETHER
    ):  # it may have got a node that the agents that gave up have freed
        said = f": {_clause(first.unschedulable)}" if first.unschedulable else ""
        return f"pod {first.name} had no node{said}"
    return f"the container of pod {first.name} on {first.node} was not started in time"


def _told_by_nobody(gang: AttemptView, failure: Failure) -> Failure | None:
    """Agents were told to stop, but not by a deletion, an eviction or the queue: usually a kubelet with failing probes."""
    first = next((pod for pod in gang.pods.values() if pod.name == failure.pod), None)
    if failure.exit_code not in STOPPED or first is None or not first.told_by_nobody or _told(gang):
        return None
    warned = gang.observed.warnings.get(first.name)
    said = f" The kubelet warned: {warned.reason}: {_clause(warned.message)}." if warned else ""
    where = f" on {first.node}" if first.node else ""
    message = f"Pod {first.name}{where} was told to stop though nobody deleted or evicted it, as a kubelet does whose probes fail.{said}"
    return replace(called(failure, "StoppedFromOutside"), message=message)


def _told(gang: AttemptView) -> bool:
    """Whether the gang, or part of it, is known to be suspended, preempted or drained."""
    admission = gang.observed.admission
    by_queue = admission is not None and (admission.evicted or not admission.admitted)
    nodes = [gang.observed.nodes.get(pod.node) for pod in gang.pods.values() if pod.node]
    by_node = any(node is not None and (not node.exists or node.out_of_service or node.unschedulable) for node in nodes)
    asked = any(pod.deleting is not None or pod.disruption is not None or pod.reason is not None for pod in gang.pods.values())
    return asked or by_queue or by_node or bool(gang.missing)


def _clause(text: str) -> str:
    return " ".join(text.split()).rstrip(".")[:MOST_SAID]
