"""The newest attempt of a job as observed: its pods, missing pods, pods that may still run."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from llmtrain_operator.life.failures.failure import Evidence
from llmtrain_operator.life.observed import Agent, Observed, Pod
from llmtrain_trainer.config import CheckpointStatus, ExitCode, Progress, Verdict

LOST_AFTER = 60.0
"""Seconds for which a node is not ready, and its agent silent, before it counts as lost: a restarted kubelet is back sooner."""

UNHEARD_LOST_AFTER = 360.0
"""Seconds before a node counts as lost if no agent answers, so that the silence of one proves nothing. Kubernetes itself waits 300 s."""

HEARD_WITHIN = 60.0
"""Seconds for which an agent's answer is current."""


class AttemptView:
    """A view of one observation, computed from it alone."""

    def __init__(self, observed: Observed) -> None:
        self.observed = observed
        self.job = observed.job
        self.size = observed.job.size

    @cached_property
    def mine(self) -> tuple[Pod, ...]:
        """Pods of this job, by uid."""
        return tuple(pod for pod in self.observed.pods if pod.owner == self.job.uid)

    @cached_property
    def earlier(self) -> tuple[Pod, ...]:
        """Pods of an earlier job with this name, which are not garbage-collected yet, or were orphaned."""
        return tuple(pod for pod in self.observed.pods if pod.owner != self.job.uid)

    @cached_property
    def number(self) -> int:
        """The newest attempt; 0 before the first. Pods take precedence over a status that was restored from a backup."""
        return max(self.job.status.attempt or 0, *(pod.attempt for pod in self.mine), 0)

    @property
    def ranks(self) -> int:
        """Number of ranks of an attempt, at least 1."""
        if self.observed.plan is not None:
            return self.observed.plan.mesh.world_size
        return self.job.spec.resources.ranks if self.job.spec else 1

    @property
    def next_number(self) -> int:
        """The number of the next attempt, above every known one, so that none is used twice; an attempt without any pod is tried again."""
        unused = self.observed.not_created is not None and self.number > (self.job.status.ended_attempt or 0)
        if unused and all(pod.attempt != self.number for pod in self.mine):
            return self.number
        return 1 + max(self.number, self.job.status.ended_attempt or 0)

    @property
    def over(self) -> bool:
        """Whether the newest attempt was ended: by a failure, by suspend, or by giving way.

        One that has no pods and never had all of them counts too: whether it was never begun, or the status is one restored from the
        past and it trained long ago, cannot be told.
        """
        return (self.job.status.ended_attempt or 0) >= self.number or not (self.pods or self.was_whole)

    @cached_property
    def pods(self) -> dict[int, Pod]:
        """Pods of the newest attempt, by index."""
        return {pod.index: pod for pod in self.mine if pod.attempt == self.number and pod.index < self.size}

    @cached_property
    def older(self) -> tuple[Pod, ...]:
        """Pods of earlier attempts that may still run."""
        return tuple(pod for pod in self.mine if pod.attempt < self.number and self.may_run(pod))

    @cached_property
    def may_run_now(self) -> tuple[Pod, ...]:
        """Pods of any attempt with a process that may still run. While there is one, no new attempt starts."""
        return tuple(pod for pod in self.mine if self.may_run(pod))

    @cached_property
    def missing(self) -> tuple[int, ...]:
        """Indexes of the newest attempt without a pod."""
        return tuple(index for index in range(self.size) if index not in self.pods)

    @property
    def trained(self) -> bool:
        """Whether any agent of the newest attempt is known to have reached training."""
        return any(self._trained(index) for index in self.pods) or self.progress is not None

    @property
    def was_whole(self) -> bool:
        """Whether all pods of the newest attempt existed at some time, so that a missing one was deleted."""
        counts, status = self.job.status.pods, self.job.status
        counted = counts is not None and status.attempt == self.number and counts.created >= self.size
        return counted or any(self._trained(index) for index in self.pods)

    @property
    def scheduled(self) -> int:
        """Pods of the newest attempt that have a node."""
        return sum(pod.node is not None for pod in self.pods.values())

    @property
    def placed_since(self) -> float | None:
        """Time since when all pods of the newest attempt are admitted and have nodes, seconds since the epoch; None while some wait."""
        admission = self.observed.admission
        waits = not self.pods or self.missing or self.scheduled < self.size or (admission is not None and not admission.admitted)
        if waits:
            return None
        began = [pod.placed or pod.created or self.observed.now for pod in self.pods.values()]
        return max(*began, (admission.since or 0.0) if admission else 0.0)

    @property
    def leader(self) -> Agent | None:
        """The agent of node 0, which reports progress and checkpoints."""
        return self.agent(0)

    def agent(self, index: int) -> Agent | None:
        """The agent's answer, if it belongs to the newest attempt."""
        found = self.observed.agents.get(index)
        return found if found is not None and found.status.attempt == self.number else None

    @cached_property
    def verdict(self) -> Verdict | None:
        """The verdict of node 0, if it has ended."""
        return next((found.verdict for found in self.evidence() if found.pod.index == 0), None)

    @property
    def progress(self) -> Progress | None:
        """The newest progress row of node 0, from its verdict or its agent."""
        said = self.verdict.progress if self.verdict else None
        return said or (self.leader.status.progress if self.leader else None)

    @property
    def checkpoint(self) -> CheckpointStatus | None:
        """The newest checkpoint that node 0 reported."""
        said = self.verdict.checkpoint if self.verdict else None
        return said or (self.leader.status.checkpoint if self.leader else None)

    @property
    def notices(self) -> Iterator[tuple[str, ...]]:
        """Notices of each node of the newest attempt, from its agent and its verdict."""
        for index in self.pods:
            if (agent := self.agent(index)) is not None:
                yield agent.status.notices
        for evidence in self.evidence():
            if evidence.verdict is not None:
                yield evidence.verdict.notices

    def may_run(self, pod: Pod) -> bool:
        """Whether a process of this pod may still run. On a lost node a pod counts as ended once it was deleted by force."""
        if pod.stopped:
            return False
        return not (self.lost(pod) and pod.deleting is not None and pod.grace == 0)

    def lost(self, pod: Pod) -> bool:
        """Whether the pod's node counts as lost."""
        node = self.observed.nodes.get(pod.node) if pod.node else None
        if node is None:
            return False
        if node.out_of_service:
            return True
        if pod.attempt == self.number and self.heard(pod.index):
            return False
        if node.not_ready_since is None:
            return not node.exists
        patience = LOST_AFTER if self._can_hear else UNHEARD_LOST_AFTER
        return self.observed.now - node.not_ready_since >= patience

    def heard(self, index: int) -> bool:
        """Whether the agent has a current answer."""
        agent = self.agent(index)
        return agent is not None and self.observed.now - agent.time < HEARD_WITHIN

    @property
    def speaker(self) -> Agent | None:
        """The first agent with a current answer: node 0's if possible, else another, which reports the phase but no progress."""
        return next((self.agent(index) for index in sorted(self.pods) if self.heard(index)), None)

    @cached_property
    def _can_hear(self) -> bool:
        """Whether any agent can be reached: if not, the network may be the cause. An agent on an unavailable node proves nothing."""
        if any(self.heard(index) for index in self.pods):
            return True
        gone = {node.name for node in self.observed.nodes.values() if node.not_ready_since is not None}
        away = {pod.index for pod in self.pods.values() if pod.node in gone}
        others = [pod for pod in self.pods.values() if pod.running and pod.index not in away]
        return not others and any(self.agent(index) is not None for index in away)

    @property
    def complete(self) -> bool:
        """Whether node 0 ended normally, which it does only after the last checkpoint is committed and the exports are uploaded."""
        first = self.pods.get(0)
        return first is not None and (first.exit_code == ExitCode.DONE or (first.exit_code is None and first.phase == "Succeeded"))

    def evidence(self) -> Iterator[Evidence]:
        """Evidence of every pod of the newest attempt."""
        for pod in self.pods.values():
            node = self.observed.nodes.get(pod.node) if pod.node else None
            warned = self.observed.warnings.get(pod.name)
            yield Evidence(pod=pod, node=node, lost=self.lost(pod), now=self.observed.now, warned=warned)

    def step(self) -> int | None:
        """Newest step known to be done, in this attempt or earlier."""
        progress = self.job.status.progress
        agent = self.leader
        told = agent.status.progress.step if agent is not None and agent.status.progress is not None else None
        said = [evidence.verdict.step for evidence in self.evidence() if evidence.verdict is not None]
        known = [step for step in (told, progress.step if progress else None, *said) if step is not None]
        return max(known, default=None)

    def _trained(self, index: int) -> bool:
        agent = self.agent(index)
        return agent is not None and agent.status.phase not in ("preparing", "starting")
