"""Gangs under the operator's own order, on a scheduler that places single pods in any order it likes."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from llmtrain_operator.api.job import Spec, Status
from llmtrain_operator.kube.jobs.placement_order import Turns
from llmtrain_operator.kube.names import JobKey
from llmtrain_operator.life.decide import decide
from llmtrain_operator.life.decision import Action
from llmtrain_operator.life.observed import Agent, Job, Observed, Pod
from llmtrain_operator.life.status import project
from llmtrain_trainer.config import NodeStatus

TICK = 20.0
TRAINS_FOR = 100.0


class Town:
    """Jobs that want `sizes` places of `places`; each trains for a while once all its pods have one."""

    def __init__(self, spec: Spec, sizes: list[int], places: int, random: Random) -> None:
        self.now, self.places, self.random = 1_800_000_000.0, places, random
        self.specs = [spec.model_copy(update={"resources": spec.resources.model_copy(update={"nodes": size})}) for size in sizes]
        self.status = [Status() for _ in sizes]
        self.woken: list[JobKey] = []
        self.turns = Turns(self.woken.append)
        self.pods: list[dict[str, Pod]] = [{} for _ in sizes]

    def observed(self, number: int) -> Observed:
        job = Job(
            name=f"job{number}",
            namespace=f"team{number % 2}",
            uid=str(number),
            generation=1,
            created=self.now - 100,
            deleting=False,
            spec=self.specs[number],
            refusal=None,
            status=self.status[number],
        )
        pods = tuple(self.pods[number].values())
        agents = {
            pod.index: Agent(status=NodeStatus(job=job.name, attempt=pod.attempt, node_rank=pod.index, phase="starting"), time=self.now)
            for pod in pods
            if pod.running
        }
        return Observed(now=self.now, job=job, pods=pods, agents=agents)

    def reconcile(self, number: int) -> None:
        key, seen = (f"team{number % 2}", f"job{number}"), self.observed(number)
        seen = replace(seen, rivals=self.turns.others(key), place=self.turns.place(key, seen))
        decision = decide(seen)
        self.turns.note(key, seen, decision)
        self.status[number] = project(seen, decision)
        for deletion in decision.delete:
            self.pods[number].pop(deletion.name, None)
        if decision.action is Action.CREATE:
            for index in decision.create:
                name = f"{number}-a{decision.attempt}-{index}"
                self.pods[number][name] = Pod(
                    name=name, uid=name, owner=str(number), attempt=decision.attempt, index=index, phase="Pending", created=self.now
                )

    def schedule(self) -> None:
        """Any pod that waits, wherever there is a place."""
        waiting = [(number, pod) for number, pods in enumerate(self.pods) for pod in pods.values() if pod.node is None]
        free = self.places - sum(pod.node is not None and not pod.stopped for pods in self.pods for pod in pods.values())
        for number, pod in self.random.sample(waiting, min(free, len(waiting))):
            self.pods[number][pod.name] = replace(
                pod, node="somewhere", phase="Running", started=self.now, running=True, unschedulable=None
            )
        for number, pod in waiting:
            if self.pods[number][pod.name].node is None:
                self.pods[number][pod.name] = replace(pod, unschedulable="0/9 nodes are available: 9 Insufficient cpu.")

    def train(self) -> None:
        """Whole gangs end once they have trained."""
        for number, pods in enumerate(self.pods):
            whole = len(pods) == self.specs[number].resources.nodes and all(pod.running for pod in pods.values())
            if whole and all(self.now - (pod.started or self.now) >= TRAINS_FOR for pod in pods.values()):
                for name, pod in pods.items():
                    pods[name] = replace(pod, phase="Succeeded", running=False, exit_code=0, finished=self.now)

    def half_placed(self) -> int:
        return sum(0 < sum(pod.node is not None for pod in pods.values()) < len(pods) for pods in self.pods)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**16), sizes=st.lists(st.integers(2, 6), min_size=2, max_size=5), places=st.integers(6, 9))
def test_no_two_gangs_ever_hold_a_part_of_their_nodes_and_all_come_to_an_end(w: Any, seed: int, sizes: list[int], places: int) -> None:
    random = Random(seed)
    town = Town(w.spec(), sizes, places, random)
    for _ in range(400):
        for number in random.sample(range(len(sizes)), len(sizes)):
            town.reconcile(number)
        town.schedule()
        assert town.half_placed() <= 1
        town.train()
        town.now += TICK
        if all(status.phase == "Complete" for status in town.status):
            return
    raise AssertionError([(status.phase, status.message) for status in town.status])


def test_a_gang_that_never_fits_does_not_stop_the_others(w: Any) -> None:
    town = Town(w.spec(), [8, 3, 3], 4, Random(1))
    for _ in range(200):
        for number in range(3):
            town.reconcile(number)
        town.schedule()
        town.train()
        town.now += TICK
    assert [status.phase for status in town.status[1:]] == ["Complete", "Complete"]
    assert town.status[0].phase != "Complete"
