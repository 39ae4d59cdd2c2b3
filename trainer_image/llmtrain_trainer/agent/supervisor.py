"""Starts this node's ranks, monitors and restarts them: torch.distributed.elastic's agent with our ranks and our verdicts.

elastic's loop (`SimpleElasticAgent.run`) calls four methods: rendezvous and start, monitor, stop, shutdown. elastic would count restarts;
here the leader of the gang decides for all nodes, from the evidence of all nodes.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from torch.distributed.elastic.agent.server.api import RunResult, SimpleElasticAgent, WorkerGroup, WorkerSpec, WorkerState

from llmtrain_trainer.agent.gang.agreement import Agreement
from llmtrain_trainer.agent.gang.failure import NodeFailure, first_failure, first_of
from llmtrain_trainer.agent.gang.rendezvous import GangRendezvous, SupersededError
from llmtrain_trainer.agent.gang.restart_budget import Budget
from llmtrain_trainer.agent.outcome import EndedError, GaveUpError, LostGangError, StoppedError
from llmtrain_trainer.agent.policies import judge
from llmtrain_trainer.agent.policies.ended import failed
from llmtrain_trainer.agent.policies.round import Round
from llmtrain_trainer.agent.processes import oom_killer
from llmtrain_trainer.agent.processes.orphans import reap
from llmtrain_trainer.agent.processes.ranks import RankProcesses, fork, server_processes
from llmtrain_trainer.agent.uploads import Uploads
from llmtrain_trainer.agent.watch import NodeContext, RoundWatch
from llmtrain_trainer.checkpoint.position import Position
from llmtrain_trainer.config import RENDEZVOUS_SECRET
from llmtrain_trainer.config.tables.failures import verdict_for
from llmtrain_trainer.engines.registry import ENGINES
from llmtrain_trainer.run_dir.layout import write_atomically

_ENTRY = "llmtrain_trainer.rank.main:main"
_MONITOR_SECONDS = 0.1
_LEAST_UPLOAD_WAIT = 3.0
_PEER_GRACE = 0.5
"""Seconds to wait for the cause when ranks so far only complain about each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collaborators:
    """The supervisor's collaborators besides the node itself, made by node.py."""

    gang: GangRendezvous
    agreement: Agreement
    uploads: Uploads | None


class Supervisor(SimpleElasticAgent):
    """One per agent. `run()` returns once the ranks exited normally, or raises what ended them."""

    def __init__(self, node: NodeContext, collaborators: Collaborators) -> None:
        mesh = node.config.mesh
        spec = WorkerSpec(
            role="rank",
            local_world_size=mesh.procs_per_node,
            rdzv_handler=collaborators.gang,
            entrypoint=_ENTRY,
            max_restarts=2**31 - 1,  # the leader's budget counts
            monitor_interval=_MONITOR_SECONDS,
        )
        super().__init__(spec, exit_barrier_timeout=60)
        self._node = node
        self._collaborators = collaborators
        self._ranks = RankProcesses({})
        self._budget = Budget(node.config.restarts)
        self._position = Position()
        self._failure: NodeFailure | None = None
        self._judged: NodeFailure | None = None
        self._watch = RoundWatch(node)
        self._killed_before = 0

    @property
    def restarts(self) -> int:
        """Starts of the ranks after the first."""
        return self._node.board.status.restarts

    # -- called by elastic's loop

    def _initialize_workers(self, worker_group: WorkerGroup) -> None:
        while True:
            try:
                super()._initialize_workers(worker_group)
                return
            except SupersededError:
                continue
            except StoppedError:
                self._bring_out_what_is_whole()
                raise

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
        node, self._failure = self._node, None
        self._judge_last_round()
        self._wait_for_uploads()
        began = time.monotonic()
        lost = None
        self._position = position = self._collaborators.agreement.settle(first=self._watch.first_start)
        if position.checkpoint is not None:
            seconds = time.monotonic() - began
            node.metrics.restored(seconds)
            self._watch.timeline.restored(seconds)
        if not self._watch.first_start:
            lost = max(0, self._watch.furthest - position.step)
            node.board.update(restarts=self.restarts + 1)
        self._collaborators.gang.fail("")  # all nodes agree: what happened before is dealt with
        self._say_where_it_begins(position, lost)
        write_atomically(node.run.resume, position.text())
        self._killed_before = oom_killer.kills()
        ranks = [worker.global_rank for worker in worker_group.workers]
        self._clear(ranks)
        self._ranks = RankProcesses(
            {
                worker.global_rank: fork(
                    _ENTRY,
                    node.run.root,
                    self._environment(worker_group, worker.local_rank, worker.global_rank),
                    node.run.logs / f"rank-{worker.global_rank}.log",
                )
                for worker in worker_group.workers
            }
        )
        self._watch.start(ranks, self._ranks, position.step)
        pids = self._ranks.pids()
        return {worker.local_rank: pids[worker.global_rank] for worker in worker_group.workers}

    def _monitor_workers(self, _worker_group: WorkerGroup) -> RunResult:
        self._watch.tick()
        if os.getpid() == 1:
            reap(known=server_processes())
        seen = self._look()
        decision = judge(seen)
        if decision.action == "end-fenced":
            self._end_fenced()
        elif decision.action == "leave":
            return RunResult(state=WorkerState.SUCCEEDED, return_values=dict(seen.codes))
        elif decision.action == "end-unsaved":
            self._end_if_stopping(None)
        elif decision.action == "fail":
            return self._failed(WorkerState.FAILED, self._first_failure())
        elif decision.action == "restart-hung":
            self._ranks.dump_stacks()
            time.sleep(1.0)  # for the stacks to reach the logs
            return self._failed(WorkerState.UNHEALTHY, decision.failure)
        return RunResult(state=WorkerState.HEALTHY)

    def _stop_workers(self, _worker_group: WorkerGroup) -> None:
        failure = self._failure or self._collect(self._ranks.exit_codes())
        self._ranks.kill()
        self._collaborators.gang.fail(failure.model_dump_json() if failure else "")
        self._watch.failed()  # reads what the ranks left, and with it the phase that they were in
        self._node.board.update(phase="restarting", message=failure.sentence() if failure else "Another node asked for a restart.")

    def _shutdown(self, _death_sig: signal.Signals = signal.SIGTERM, timeout: int = 30) -> None:
        self._ranks.kill(timeout)

    # -- ours

    def _say_where_it_begins(self, position: Position, lost: int | None) -> None:
        """Leader: record the start of the ranks. `lost`: steps to train again; None at the first start."""
        if not self._collaborators.gang.leads:
            return
        self._node.metrics.lost(lost or 0)
        if position.checkpoint is None:
            self._node.events.record("start", "Ranks start from step 0.", step=0, round=position.round, lost_steps=lost)
        else:
            message = f"Ranks resume after step {position.step}, from {position.checkpoint}."
            self._node.events.record(
                "restore", message, step=position.step, round=position.round, name=position.checkpoint, lost_steps=lost
            )

    def _judge_last_round(self) -> None:
        """Leader: decide on another restart from the evidence of all nodes and the budget. Raises GaveUpError."""
        node = self._node
        if not self._collaborators.gang.leads:
            return
        cause = first_of([NodeFailure.model_validate_json(text) for text in self._collaborators.gang.evidence() if text])
        if cause is None or cause == self._judged:  # judged in a round that another node's failure cut short
            return
        self._judged = cause
        verdict = self._budget.decide(cause, time.time())
        if verdict is not None:
            self._collaborators.gang.give_up(verdict)
            raise GaveUpError(verdict)
        node.metrics.restart(cause.kind)
        if cause.kind == "hang":
            self._watch.timeline.failed(cause.time)
        kind = "hang" if cause.kind == "hang" else "restart"
        pause = self._budget.pause
        message = f"{cause.sentence().rstrip('.')}; starting the ranks again{f' in {pause:.0f} s' if pause else ''}."
        node.events.record(kind, message, step=cause.step, rank=cause.rank, node=cause.node, reason=cause.kind)
        node.board.update(last_restart=message)
        self._rest(pause)

    def _rest(self, seconds: float) -> None:
        """Restarts without progress are delayed more each time. A stop request ends the delay."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._node.stop.requested:
            time.sleep(0.05)

    def _wait_for_uploads(self) -> None:
        """Leader, before a restart: wait for a save that is being uploaded."""
        uploads = self._collaborators.uploads
        if uploads is not None and self._collaborators.gang.leads and not self._watch.first_start:
            uploads.settle(self._upload_patience(uploads))

    def _bring_out_what_is_whole(self) -> None:
        """A stop while no ranks run: nothing new can be saved, but saves without missing parts are still uploaded."""
        uploads = self._collaborators.uploads
        if uploads is not None and not self._watch.first_start:
            with suppress(LostGangError):  # then node 0 is gone, and nothing can be committed
                uploads.settle_without(self._collaborators.gang.absent(), self._upload_patience(uploads))

    def _upload_patience(self, uploads: Uploads) -> float:
        """Seconds to wait for a save that is being uploaded: as long as training its steps again would take."""
        steps = self._watch.step - (uploads.last.step if uploads.last else self._position.step)
        return max(_LEAST_UPLOAD_WAIT, steps * self._watch.step_seconds)

    def _environment(self, group: WorkerGroup, local_rank: int, rank: int) -> dict[str, str]:
        mesh = self._node.config.mesh
        return {
            "RANK": str(rank),
            "LOCAL_RANK": str(local_rank),
            "WORLD_SIZE": str(mesh.world_size),
            "LOCAL_WORLD_SIZE": str(mesh.procs_per_node),
            "GROUP_RANK": str(group.group_rank),
            "MASTER_ADDR": str(group.master_addr),
            "MASTER_PORT": str(group.master_port),
            RENDEZVOUS_SECRET: self._collaborators.gang.secret,
            **ENGINES[self._node.config.engine].environment,
        }

    def _clear(self, ranks: list[int]) -> None:
        for rank in ranks:
            self._node.run.error(rank).unlink(missing_ok=True)
            self._node.run.heartbeat(rank).unlink(missing_ok=True)

    def _look(self) -> Round:
        """The input of the policies. Exit codes are read once, because a rank may fail between two reads."""
        uploads = self._collaborators.uploads
        return Round(
            node=self._node.name,
            now=time.time(),
            ranks=len(self._ranks),
            codes=self._ranks.exit_codes(),
            fenced=uploads is not None and uploads.fenced is not None,
            grace_over=self._node.stop.expired(),
            heartbeats=self._watch.heartbeats(),
        )

    def _failed(self, state: WorkerState, failure: NodeFailure | None) -> RunResult:
        self._failure = failure
        self._end_if_stopping(failure)
        return RunResult(state=state)

    def _first_failure(self) -> NodeFailure | None:
        """The first failure on this node. Waits briefly if ranks so far only report failures of their peers."""
        until = time.monotonic() + _PEER_GRACE
        failure = self._collect(self._ranks.exit_codes())
        while failure is not None and failure.kind == "peer" and time.monotonic() < until:
            time.sleep(0.05)
            failure = self._collect(self._ranks.exit_codes())
        return failure

    def _collect(self, codes: Mapping[int, int]) -> NodeFailure | None:
        ended_badly = failed(codes)
        paths = {rank: self._node.run.error(rank) for rank in ended_badly}
        return first_failure(
            ended_badly,
            {rank: json.loads(path.read_text()) for rank, path in paths.items() if path.exists()},
            {beat.rank: beat.step for beat in self._watch.beats},
            node=self._node.name,
            now=time.time(),
            oom_killed=oom_killer.kills() > self._killed_before,
        )

    def _end_fenced(self) -> None:
        fenced = self._collaborators.uploads.fenced if self._collaborators.uploads else None
        if fenced is not None:
            self._collaborators.gang.give_up(fenced.verdict)
            raise fenced

    def _end_if_stopping(self, failure: NodeFailure | None) -> None:
        """A stop that fails is not retried, because the node is needed elsewhere."""
        if not self._node.stop.requested:
            return
        why = failure.sentence() if failure else "The ranks did not save within the grace period."
        verdict = verdict_for(
            "StoppedUnsaved",
            f"Asked to stop, but not saved: {why}",
            first_failing_rank=failure.rank if failure else None,
            node=self._node.name,
            step=self._watch.step,
            restarts=self.restarts,
        )
        self._collaborators.gang.give_up(verdict)
        raise EndedError(verdict)
