"""Whether an operator is at work, as a person may tell it: by the lease, whatever the release is called."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from llmtrain_operator.access import inspect_job
from llmtrain_operator.kube.api.client import ApiError
from llmtrain_operator.kube.process.lease import LABELS, ApiLease


class Leases:
    """An API server that holds leases and selects by labels; `forbids` answers every list."""

    def __init__(self, forbids: int | None = None) -> None:
        self.held: list[dict[str, Any]] = []
        self.forbids = forbids

    async def list(self, _path: str, labelSelector: str) -> list[dict[str, Any]]:  # noqa: N803 - as the API server has it
        if self.forbids:
            raise ApiError(self.forbids, "Forbidden", "no")
        wanted = dict(pair.split("=") for pair in labelSelector.split(","))
        return [lease for lease in self.held if wanted.items() <= (lease["metadata"].get("labels") or {}).items()]

    async def create(self, _path: str, body: dict[str, Any], _within: float) -> dict[str, Any]:
        self.held.append(body)
        return body

    async def replace(self, _path: str, body: dict[str, Any], _within: float) -> dict[str, Any]:
        self.held = [body]
        return body


async def hold(leases: Any, seconds_ago: float = 0.0, holder: str = "pod-1", **metadata: Any) -> None:
    """As an operator that helm installed under the name `mine` does."""
    renewed = datetime.fromtimestamp(time.time() - seconds_ago, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    await ApiLease(leases, "ops", "mine").write({"metadata": metadata, "spec": {"holderIdentity": holder, "renewTime": renewed}}, 1)


async def said(leases: Any) -> str | None:
    return await inspect_job._operator(leases)


async def test_an_operator_is_found_whatever_its_lease_is_called() -> None:
    leases = Leases()
    assert await said(leases) == "No operator is at work: none holds a lease."
    await hold(leases)
    assert await said(leases) is None


async def test_a_lease_from_before_is_labelled_as_it_is_renewed() -> None:
    leases = Leases()
    await hold(leases, resourceVersion="7", labels={"team": "a"})
    assert leases.held[0]["metadata"]["labels"] == {"team": "a", **LABELS} and await said(leases) is None


async def test_one_that_stopped_is_told_after_a_minute_which_a_handover_never_takes() -> None:
    leases = Leases()
    await hold(leases, 30, holder="")
    assert await said(leases) is None
    await hold(leases, 300, resourceVersion="7")
    assert await said(leases) == "No operator is at work: its lease mine in namespace ops was last renewed 5m00s ago."


async def test_who_may_not_read_leases_is_told_nothing() -> None:
    assert await said(Leases(forbids=403)) is None
    with pytest.raises(ApiError):
        await said(Leases(forbids=500))
