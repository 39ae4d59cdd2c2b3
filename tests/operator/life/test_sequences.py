"""Whole lives: a cluster that does its worst between reconciles, and what must hold through all of it.

The cluster here knows the truth that the operator does not: which processes really run. Pods end late, nodes die with and without being
noticed, people delete pods, the operator dies between any two of its writes, and the status is restored from the past.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from llmtrain_operator.api.job import Status
from llmtrain_operator.life.decide import decide
from llmtrain_operator.life.decision import Action, Decision
from llmtrain_operator.life.observed import Agent, Job, Node, Observed, Pod
from llmtrain_operator.life.status import as_dict, project
from llmtrain_operator.manifest.parse import parse_object
from llmtrain_trainer.config import ExitCode, NodeStatus, Progress

pytestmark = pytest.mark.long

SIZE = 3
NODES = ("n0", "n1", "n2", "n3")
SPEC = parse_object(
    {
        "apiVersion": "llmtrain.io/v1alpha1",
        "kind": "LLMTrainJob",
        "metadata": {"name": "demo"},
        "spec": {
            "model": {"config": {"model_type": "llama", "hidden_size": 64}},
            "tokenizer": {"source": "s3://models/tokenizer"},
            "dataset": [{"source": "s3://data/text.jsonl"}],
            "training": {"globalBatchSize": 9, "sequenceLength": 64, "maxSteps": 100},
            "checkpoint": {"destination": "s3://checkpoints/demo"},
            "resources": {"nodes": SIZE},
            "resilience": {"restarts": {"max": 6}},
        },
    }
).spec
CODES = [ExitCode.DONE, ExitCode.RANK_FAILED, ExitCode.CONFIG, ExitCode.SAVED, ExitCode.HANG, ExitCode.STORE, 137, 139]


class Cluster(RuleBasedStateMachine):
    pods_seen = Bundle("pods_seen")

    @initialize()
    def begin(self) -> None:
        self.now = 1_800_000_000.0
        self.status = Status()
        self.past: list[Status] = [Status()]
        self.pods: dict[str, Pod] = {}
        self.nodes = {name: Node(name=name) for name in NODES}
        self.dead: set[str] = set()  # nodes on which truly nothing runs
        self.ever: set[str] = set()
        self.suspend = False
        self.step = 0
        self.progress_of: dict[int, int] = {}
        self.finals: set[str] = set()
        self.restored = False
        self.fenced = 0  # the attempt that the newest fenced gang saw in the store

    # ---- the operator ----------------------------------------------------------------------------------------------------

    def observed(self) -> Observed:
        job = Job(
            name="demo",
            namespace="team",
            uid="uid",
            generation=1,
            created=1_799_999_000.0,
            deleting=False,
            spec=SPEC.model_copy(update={"suspend": self.suspend}),
            refusal=None,
            status=self.status,
        )
        return Observed(now=self.now, job=job, pods=tuple(self.pods.values()), nodes=self.nodes, agents=self.agents())

    def agents(self) -> dict[int, Agent]:
        newest = max((pod.attempt for pod in self.pods.values()), default=0)
        running = [pod for pod in self.pods.values() if pod.attempt == newest and pod.running and pod.node not in self.dead]
        return {pod.index: Agent(status=self.answer(pod), time=self.now) for pod in running}

    def answer(self, pod: Pod) -> NodeStatus:
        step = self.progress_of.get(pod.attempt)
        row = _row(step, self.now) if step is not None and pod.index == 0 else None
        return NodeStatus(job="demo", attempt=pod.attempt, node_rank=pod.index, phase="training" if step else "starting", progress=row)

    def stored(self) -> int:
        """Highest attempt that a checkpoint names."""
        return max(self.progress_of, default=0)

    @rule(stops_after=st.sampled_from(["status", "half", "all", "all", "all", "all"]))
    def reconcile(self, stops_after: str) -> None:
        """The status first, then the action; the operator may die between any two writes."""
        decision = decide(self.observed())
        self.status = Status.model_validate(as_dict(project(self.observed(), decision)))
        self.past.append(self.status)
        if decision.failure is not None and decision.failure.reason == "Fenced":
            assert (self.status.ended_attempt or 0) >= self.fenced, "the attempt after a fenced one must be above what is stored"
        if stops_after == "status":
            return
        deletions, creations = list(decision.delete), list(decision.create)
        if stops_after == "half":
            deletions, creations = deletions[: len(deletions) // 2], creations[: len(creations) // 2]
        for deletion in deletions:
            self.delete(deletion.name, 300.0 if deletion.grace is None else deletion.grace)
        for index in creations:
            self.create(decision, index)
        assert decision.action is not Action.DELETE_JOB

    def create(self, decision: Decision, index: int) -> None:
        name = f"demo-a{decision.attempt}-{index}"
        assert name not in self.pods
        trained = name in self.ever and decision.attempt in self.progress_of
        assert self.restored or not trained, f"{name} was created before, and its attempt trained"
        self.ever.add(name)
        self.pods[name] = Pod(name=name, uid=name, owner="uid", attempt=decision.attempt, index=index, phase="Pending", created=self.now)

    def delete(self, name: str, grace: float) -> None:
        pod = self.pods.get(name)
        if pod is None:
            return
        if pod.node is None or pod.stopped or (grace == 0 and pod.node in self.dead):
            del self.pods[name]
        else:
            self.pods[name] = replace(pod, deleting=self.now + grace, grace=grace)

    # ---- the world -------------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1.0, 5.0, 30.0, 70.0, 400.0, 4000.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(which=st.integers(0, 20), node=st.sampled_from(NODES))
    def a_pod_starts(self, which: int, node: str) -> None:
        waiting = [pod for pod in self.pods.values() if pod.phase == "Pending" and pod.deleting is None]
        if waiting and node not in self.dead and self.nodes[node].exists:
            pod = waiting[which % len(waiting)]
            self.pods[pod.name] = replace(pod, phase="Running", node=node, started=self.now, running=True)

    @rule()
    def all_pods_start(self) -> None:
        for index in range(SIZE):
            self.a_pod_starts(0, NODES[index])

    @rule(steps=st.integers(1, 30))
    def training_goes_on(self, steps: int) -> None:
        newest = max((pod.attempt for pod in self.pods.values()), default=0)
        gang = [pod for pod in self.pods.values() if pod.attempt == newest and pod.running and pod.node not in self.dead]
        if len(gang) == SIZE and newest >= self.stored():
            self.progress_of[newest] = self.progress_of.get(newest, 0) + steps
        elif len(gang) == SIZE:  # its agent sees in the store that it is not the latest
            verdict = {"exitCode": ExitCode.FENCED, "reason": "Fenced", "message": "Later.", "storedAttempt": self.stored()}
            self.exits(gang[0], ExitCode.FENCED, json.dumps(verdict))

    @rule(which=st.integers(0, 20), code=st.sampled_from(CODES))
    def a_pod_exits(self, which: int, code: int) -> None:
        running = [pod for pod in self.pods.values() if pod.running and pod.node not in self.dead]
        if running:
            self.exits(running[which % len(running)], code)

    @rule()
    def all_pods_end_well(self) -> None:
        for pod in [pod for pod in self.pods.values() if pod.running and pod.node not in self.dead]:
            self.exits(pod, 0)

    def exits(self, pod: Pod, code: int, termination: str | None = None) -> None:
        phase = "Failed" if code else "Succeeded"
        self.pods[pod.name] = replace(pod, phase=phase, running=False, exit_code=code, finished=self.now, termination=termination)
        if termination is not None:
            self.fenced = self.stored()

    @rule()
    def deleted_pods_end(self) -> None:
        for pod in [pod for pod in self.pods.values() if pod.deleting is not None and pod.node not in self.dead]:
            del self.pods[pod.name]

    @rule(which=st.integers(0, 20), grace=st.sampled_from([0.0, 30.0]))
    def somebody_deletes_a_pod(self, which: int, grace: float) -> None:
        """With grace 0 too, but only where nothing runs: who forces a deletion on a live node breaks the fence himself."""
        pods = list(self.pods.values())
        if pods:
            pod = pods[which % len(pods)]
            self.delete(pod.name, grace if pod.node in self.dead else 30.0)

    @rule(name=st.sampled_from(NODES), how=st.sampled_from(["silent", "gone"]))
    def a_node_dies(self, name: str, how: str) -> None:
        self.dead.add(name)
        since = self.nodes[name].not_ready_since
        self.nodes[name] = Node(name=name, exists=how != "gone", not_ready_since=self.now if since is None else since)
        for pod in [pod for pod in self.pods.values() if pod.node == name and pod.grace == 0]:
            del self.pods[pod.name]

    @rule(name=st.sampled_from(NODES))
    def a_node_is_not_ready_for_a_moment(self, name: str) -> None:
        if name not in self.dead:
            self.nodes[name] = replace(self.nodes[name], not_ready_since=self.now)

    @rule(name=st.sampled_from(NODES))
    def a_node_comes_back(self, name: str) -> None:
        """Its processes are gone; what was deleted meanwhile is cleared away."""
        for pod in [pod for pod in self.pods.values() if pod.node == name and name in self.dead]:
            if pod.deleting is not None:
                del self.pods[pod.name]
            elif pod.running:
                self.exits(pod, 137)
        self.dead.discard(name)
        self.nodes[name] = Node(name=name)

    @rule(suspend=st.booleans())
    def somebody_suspends_or_resumes(self, suspend: bool) -> None:
        self.suspend = suspend

    @precondition(lambda self: not self.finals)
    @rule(back=st.integers(1, 5))
    def the_status_is_restored_from_the_past(self, back: int) -> None:
        """As when etcd is restored. A final state that is lost cannot be known any more, so those are left out."""
        self.status = self.past[max(0, len(self.past) - 1 - back)]
        self.restored = True

    # ---- what must hold --------------------------------------------------------------------------------------------------

    @invariant()
    def never_two_attempts_at_once(self) -> None:
        truly = {pod.attempt for pod in self.pods.values() if not pod.stopped and pod.node not in self.dead}
        assert len(truly) <= 1, sorted(truly)

    @invariant()
    def a_final_state_is_never_left(self) -> None:
        phase = self.status.phase
        assert not self.finals or phase in self.finals, (self.finals, phase)
        if phase in ("Complete", "Failed"):
            self.finals.add(phase)

    @invariant()
    def the_status_is_one_that_the_schema_takes(self) -> None:
        assert Status.model_validate(as_dict(self.status)) == self.status

    @invariant()
    def every_second_is_booked_once(self) -> None:
        goodput = self.status.goodput
        if goodput is not None and not self.restored:
            booked = goodput.total_seconds + goodput.suspended_seconds
            assert abs(sum(goodput.by_cause.values()) - goodput.total_seconds) < 1
            assert booked <= self.now - 1_799_999_000.0 + 1


def _row(step: int, now: float) -> Progress:
    return Progress(
        time=now,
        step=step,
        target_steps=100,
        consumed_samples=step * 9,
        consumed_tokens=step * 576,
        loss=2.0,
        grad_norm=1.0,
        learning_rate=1e-3,
        step_seconds=1.0,
        tokens_per_second=100.0,
    )


TestLives = Cluster.TestCase
TestLives.settings = settings(max_examples=80, stateful_step_count=60, deadline=None)


def test_left_alone_a_job_runs_to_its_end() -> None:
    """The machine above could keep every promise by doing nothing."""
    world: Any = Cluster()
    world.begin()
    for _ in range(3):
        world.reconcile("all")
        world.all_pods_start()
        world.training_goes_on(10)
        world.reconcile("all")
        assert world.status.phase == "Running"
        world.a_pod_exits(1, ExitCode.STORE)
        for _ in range(3):
            world.reconcile("all")
            world.deleted_pods_end()
            world.time_passes(70.0)
    world.reconcile("all")
    world.all_pods_start()
    world.all_pods_end_well()
    world.reconcile("all")
    assert (world.status.phase, world.status.attempt) == ("Complete", 4)
    assert world.status.restarts.total == 3
