"""Affinity of pods: away from nodes that failed the job, close to each other, one per node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmtrain_operator.api.job import LLMTrainJob, Topology
from llmtrain_operator.kube import names
from llmtrain_operator.life.observed import GangKind


def affinity(job: LLMTrainJob, attempt: int, avoid: Sequence[str], gang: GangKind) -> dict[str, Any]:
    """The affinity; empty if there is nothing to request."""
    topology = job.spec.scheduling.topology
    found: dict[str, Any] = {}
    if avoid and job.spec.resilience.avoid_nodes:
        found["nodeAffinity"] = _away_from(avoid)
    if topology and gang != "kueue" and (near := _near_each_other(job, attempt, topology)):  # Kueue reads its own annotations
        found["podAffinity"] = near
    return found


def _away_from(nodes: Sequence[str]) -> dict[str, Any]:
    """A strong preference, not a requirement: a job with as many pods as the cluster has nodes could otherwise never restart."""
    term = {"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": [node]} for node in sorted(nodes)]}
    return {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": term}]}


def _near_each_other(job: LLMTrainJob, attempt: int, topology: Topology) -> dict[str, Any]:
    selector = {"matchLabels": dict(names.attempt_labels(job.metadata.name, attempt))}
    found: dict[str, Any] = {}
    if topology.required:
        found["requiredDuringSchedulingIgnoredDuringExecution"] = [{"labelSelector": selector, "topologyKey": topology.required}]
    if topology.preferred:
        term = {"weight": 100, "podAffinityTerm": {"labelSelector": selector, "topologyKey": topology.preferred}}
        found["preferredDuringSchedulingIgnoredDuringExecution"] = [term]
    return found


def spread(job: LLMTrainJob, attempt: int) -> list[dict[str, Any]]:
    """One pod per node if there are enough nodes. GPUs enforce this by themselves; CPU pods would share a node."""
    if job.spec.resources.nodes == 1:
        return []
    return [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": dict(names.attempt_labels(job.metadata.name, attempt))},
        }
    ]
