"""The election: two replicas never lead at once, and a leader that cannot be sure stops."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtrain_operator.kube.api.client import ApiError
from llmtrain_operator.kube.process.lease import Election, LeaseLostError, Timing

TIMING = Timing()


class World:
    """A clock that replicas move by sleeping, and a Lease with the API server's rule of versions."""

    def __init__(self) -> None:
        self.now = 0.0
        self.record: dict[str, Any] | None = None
        self.version = 0
        self.down = False

    async def read(self, within: float) -> dict[str, Any] | None:
        self._answer(within)
        return self.record

    async def write(self, record: dict[str, Any], within: float) -> dict[str, Any]:
        self._answer(within)
        given = record.get("metadata", {}).get("resourceVersion")
        if given != (self.record or {}).get("metadata", {}).get("resourceVersion"):
            raise ApiError(409, "Conflict", "written in between")
        self.version += 1
        self.record = {"metadata": {"resourceVersion": str(self.version)}, "spec": record["spec"]}
        return self.record

    def _answer(self, within: float) -> None:
        if self.down:
            self.now += within
            raise ApiError(0, "NoAnswer", "down")

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    def replica(self, name: str, skew: float = 0.0) -> Election:
        return Election(self, name, TIMING, clock=lambda: self.now + skew, wall=lambda: 1e9 + skew * 1e6, sleep=self.sleep)


async def test_the_first_leads_and_the_second_waits() -> None:
    world = World()
    one, two = world.replica("one"), world.replica("two")
    await one.acquire()
    assert one.leads and not await two._try() and not two.leads


async def test_a_released_lease_is_taken_at_once() -> None:
    world = World()
    one, two = world.replica("one"), world.replica("two")
    await one.acquire()
    await one.release()
    assert not one.leads and await two._try()
    assert world.record is not None
    assert world.record["spec"]["holderIdentity"] == "two" and world.record["spec"]["leaseTransitions"] == 1


async def test_a_dead_leader_is_followed_after_the_duration_and_not_before() -> None:
    world = World()
    one, two = world.replica("one"), world.replica("two", skew=5000.0)
    await one.acquire()
    assert not await two._try()
    world.now += TIMING.duration - 0.1
    assert not await two._try()
    world.now += 0.2
    assert await two._try()


async def test_a_leader_without_an_answer_stops_before_another_may_lead() -> None:
    world = World()
    one = world.replica("one")
    await one.acquire()
    started, world.down = world.now, True
    with pytest.raises(LeaseLostError):
        await one.hold()
    assert not one.leads
    assert world.now - started < TIMING.duration


async def test_a_leader_that_was_overtaken_stops() -> None:
    world = World()
    one = world.replica("one")
    await one.acquire()
    assert world.record is not None
    world.version += 1
    spec = {**world.record["spec"], "holderIdentity": "two"}
    world.record = {"metadata": {"resourceVersion": str(world.version)}, "spec": spec}
    with pytest.raises(LeaseLostError, match="two"):
        await one.hold()


async def test_a_short_outage_does_not_unseat_a_leader() -> None:
    world = World()
    one = world.replica("one")
    await one.acquire()
    world.down = True
    await world.sleep(2)
    assert not await one._try()
    world.down = False
    assert one.leads and await one._try()


async def test_a_replica_that_never_led_releases_nothing() -> None:
    world = World()
    one, two = world.replica("one"), world.replica("two")
    await one.acquire()
    await two._try()
    await two.release()
    assert world.record is not None and world.record["spec"]["holderIdentity"] == "one"


@given(st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_whatever_the_order_of_tries_and_faults_two_never_lead_at_once(seed: int) -> None:
    async def run() -> None:
        chance = random.Random(seed)
        world = World()
        replicas = [world.replica(str(index), skew=chance.uniform(-1e4, 1e4)) for index in range(3)]
        for _ in range(80):
            world.down = chance.random() < 0.3
            if chance.random() < 0.05:
                await chance.choice(replicas).release()
            else:
                await chance.choice(replicas)._try()
            world.now += chance.choice([0.1, 1.0, 2.0, 9.0])
            assert sum(replica.leads for replica in replicas) <= 1

    asyncio.run(run())
