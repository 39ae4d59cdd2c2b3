"""A node from start to verdict: serve HTTP, warm the ranks' server, prepare, meet the other nodes, train, publish, say the verdict."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from llmtrain_trainer.agent.claims import Claims
from llmtrain_trainer.agent.environment import set_for_ranks, shared_secret
from llmtrain_trainer.agent.finish import Finish
from llmtrain_trainer.agent.gang.hall import Hall
from llmtrain_trainer.agent.gang.herald import Herald
from llmtrain_trainer.agent.outcome import EndedError, FencedError, GaveUpError, LostGangError, StoppedError, UnfitError
from llmtrain_trainer.agent.preflight import check_machine, check_rendezvous, check_store
from llmtrain_trainer.agent.processes.preparing import Streamer, prepare
from llmtrain_trainer.agent.processes.ranks import HEAVY, start_server
from llmtrain_trainer.agent.stop import Stop
from llmtrain_trainer.agent.telemetry.board import Board, Events
from llmtrain_trainer.agent.telemetry.log_forwarder import LogForwarder
from llmtrain_trainer.agent.telemetry.metrics import AgentMetrics
from llmtrain_trainer.agent.telemetry.notice_watch import NoticeWatch
from llmtrain_trainer.agent.telemetry.server import StatusServer
from llmtrain_trainer.agent.termination import write_verdict
from llmtrain_trainer.agent.uploads import Uploads
from llmtrain_trainer.checkpoint.restore import list_checkpoints, next_round
from llmtrain_trainer.checkpoint.store.destination import open_store
from llmtrain_trainer.checkpoint.store.errors import StoreError
from llmtrain_trainer.checkpoint.store.store import Store
from llmtrain_trainer.config import ExitCode, NodeStatus, TrainerConfig, Verdict
from llmtrain_trainer.config.listen import parted
from llmtrain_trainer.config.mounts import resolve
from llmtrain_trainer.config.tables.failures import verdict_for
from llmtrain_trainer.engines.registry import ENGINES
from llmtrain_trainer.run_dir.layout import RunDir, write_atomically
from llmtrain_trainer.run_dir.notices import forget, tell

_RENDEZVOUS_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOptions:
    """The agent's command line."""

    config: Path
    run_dir: Path
    node_rank: int
    rendezvous: str
    """host:port of node 0."""

    host: str
    port: int
    """Port of the agent's HTTP server; 0 selects a free one, which port.json in the run directory names."""

    cache: Path
    grace: float
    """Seconds from SIGTERM until ranks are killed, saved or not."""

    echo: bool = False
    """Repeat the ranks' logs on standard output."""


def run_node(options: AgentOptions) -> int:
    """Run to the end; returns the exit code. The verdict is in termination.json."""
    run = RunDir(options.run_dir.absolute())
    try:
        config = TrainerConfig.model_validate_json(options.config.read_text())
    except (OSError, ValidationError) as error:
        verdict = verdict_for("BadConfig", f"{options.config} is not a trainer config: {error}")
        print(verdict.message, flush=True)
        return write_verdict(run, verdict)
    agent = _Agent(options, config, run)
    agent.begin()
    try:
        verdict = agent.work()
    except EndedError as ended:
        verdict = ended.verdict
    except Exception as error:
        verdict = agent.verdict_of(error)
    return write_verdict(run, agent.end(verdict))


class _Agent:
    """The stages of one node."""

    def __init__(self, options: AgentOptions, config: TrainerConfig, run: RunDir) -> None:
        self._options, self._config, self._run = options, config, run
        self._name = os.environ.get("NODE_NAME", f"node {options.node_rank}")
        self._stop = Stop(run, options.grace)
        status = NodeStatus(job=config.job.name, attempt=config.job.attempt, node_rank=options.node_rank, phase="preparing")
        self._board = Board(status)
        self._began = time.time()
        self._metrics = AgentMetrics(config, self._name)
        self._events = Events(run, f"[node {options.node_rank}] " if config.mesh.nodes > 1 else "", self._hear)
        self._notices = NoticeWatch(run, self._events, self._board)
        self._uploads: Uploads | None = None
        self._claims = Claims(config, run, self._sleep)
        self._run_id = f"{config.job.namespace}/{config.job.name}/{config.job.attempt}"
        self._hall: Hall | None = None
        self._herald: Herald | None = None
        self._streamer: Streamer | None = None
        self._forwarder = LogForwarder(run) if options.echo else None

    def begin(self) -> None:
        """Before anything else: the server, the first events, the signals."""
        forget(self._run)
        if self._forwarder is not None:
            self._forwarder.start()

    def work(self) -> Verdict:
        """All stages. Raises EndedError, StoppedError, StoreError; any other exception is a bug."""
        try:
            store = self._get_ready()
        except (GaveUpError, StoppedError):
            raise
        except Exception as error:
            verdict = error.verdict if isinstance(error, EndedError) else self.verdict_of(error)
            self._hand_on(verdict)
            raise GaveUpError(verdict) from error
        return self._train(store)

    def _get_ready(self) -> Store | None:
        """The stages before this node meets the others. Raises as `work`, and GaveUpError if another node cannot join."""
        config, run = self._config, self._run
        self._listen_to_others()
        check_machine(config, run)
        self._serve()
        write_atomically(run.config, config.model_dump_json(by_alias=True, indent=1))
        set_for_ranks(config.device, self._host_port()[0])
        store = self._open_store()
        if self._options.node_rank == 0:
            self._claims.take_output()
        start_server((*HEAVY, ENGINES[config.engine].module, *_modelling(config)))
        run.preparing.unlink(missing_ok=True)
        self._board.update(message="Preparing tokenizer, data and model.")
        prepare(run, self._options.cache, self._events, lambda: self._stop.requested, self._look_at_preparation)
        if any(dataset.streaming for dataset in config.dataset):
            self._streamer = Streamer(run, self._events)
        return store

    def _listen_to_others(self) -> None:
        """Join the other nodes, if there are any. Raises UnfitError without a secret, LostGangError if node 0 cannot open its port."""
        if self._config.mesh.nodes == 1:
            return
        self._hall = Hall(*self._host_port(), shared_secret(self._config.mesh.nodes))
        if self._options.node_rank == 0:
            try:
                self._hall.open()
            except OSError as error:
                raise LostGangError(f"node 0 cannot listen at {self._options.rendezvous}: {error.strerror or error}") from error
        self._herald = Herald(self._hall, self._run_id, self._options.node_rank, self._config.mesh.nodes, lambda: self._stop.requested)

    def _stopping(self) -> bool:
        """Called while this node waits for node 0. Raises GaveUpError."""
        self._look()
        return self._stop.requested

    def _look(self) -> None:
        """Called while another thread or process works. Raises GaveUpError."""
        self._notices.look()
        if self._herald is not None:
            self._herald.look()

    def _look_at_preparation(self) -> None:
        """Show the progress of preparation; notes become notices. Raises GaveUpError."""
        self._look()
        with suppress(OSError):
            said = self._run.preparing.read_text().strip()
            if said and said not in self._board.status.notices:
                begin = said if "://" in said.split()[0] else said[0].upper() + said[1:]
                self._board.update(message=f"{begin.rstrip('.')}.")

    def _hand_on(self, verdict: Verdict) -> None:
        """Tell the other nodes, which would otherwise wait for this one or prepare in vain."""
        if self._herald is not None:
            self._herald.tell(verdict.model_copy(update={"node": verdict.node or self._name}))

    def verdict_of(self, error: Exception) -> Verdict:
        """The verdict for an error in the agent itself."""
        if isinstance(error, StoppedError):
            return verdict_for("Saved", "Asked to stop before training started; there is nothing new to save.")
        if isinstance(error, StoreError):
            return verdict_for("StoreUnreachable", f"The checkpoint store failed: {error}")
        traceback.print_exception(error)
        message = f"The agent of {self._name} failed: {type(error).__name__}: {error}"
        return verdict_for("AgentFailed", message, node=self._name)

    def end(self, verdict: Verdict) -> Verdict:
        """Write the last events and the status. Returns the verdict with the newest row and checkpoint: /status is no longer served."""
        if self._uploads is not None:
            self._uploads.close()
        self._claims.release()
        if self._streamer is not None:
            self._streamer.close()
        if self._forwarder is not None:
            self._forwarder.close()
        self._notices.look()
        phase = "done" if verdict.exit_code in (ExitCode.DONE, ExitCode.SAVED) else "failed"
        self._events.record("verdict", verdict.message, step=verdict.step, exit_code=verdict.exit_code, reason=verdict.reason)
        self._board.update(phase=phase, message=verdict.message, verdict=verdict)
        status = self._board.status
        return verdict.model_copy(update={"progress": status.progress, "checkpoint": status.checkpoint, "notices": status.notices})

    def _hear(self, row: Mapping[str, Any]) -> None:
        """Called for every event."""
        self._metrics.event(row)
        if self._uploads is not None:
            self._uploads.hear(row)

    def _serve(self) -> None:
        try:
            server = StatusServer(self._board, self._metrics, self._options.host, self._options.port)
        except OSError as error:
            message = f"--port {self._options.port} cannot be used on {self._options.host}: {error.strerror}. Give another, or 0."
            raise UnfitError("BadConfig", message) from error
        write_atomically(self._run.port, json.dumps({"host": self._options.host, "port": server.port, "pid": os.getpid()}))

    def _open_store(self) -> Store | None:
        if self._config.checkpoint is None:
            return None
        try:
            store = open_store(resolve(self._config.checkpoint.destination), traffic=self._metrics)
        except StoreError as error:
            raise UnfitError("BadConfig", str(error)) from error
        if full := check_store(store, self._options.node_rank):
            tell(self._run, full)
        newest = next(iter(list_checkpoints(store)), None) if self._options.node_rank == 0 else None
        if newest is not None and newest.name.attempt > self._config.job.attempt:
            raise FencedError(self._config.job.attempt, newest.name, self._config.checkpoint.destination)
        if self._options.node_rank == 0:
            self._claims.take_checkpoints(store)
        return store

    def _sleep(self, seconds: float) -> None:
        """Raises StoppedError if a stop was requested."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._stop.requested:
                raise StoppedError
            time.sleep(min(left, 0.1))

    def _train(self, store: Store | None) -> Verdict:
        # torch takes seconds to import; the agent needs it only from here on, and the server imported it meanwhile
        from llmtrain_trainer.agent.gang.agreement import Agreement
        from llmtrain_trainer.agent.gang.rendezvous import GangRendezvous
        from llmtrain_trainer.agent.supervisor import Collaborators, Supervisor
        from llmtrain_trainer.agent.watch import NodeContext

        config, run, rank = self._config, self._run, self._options.node_rank
        self._board.update(phase="starting", message="Waiting for all nodes.")
        if rank > 0:
            check_rendezvous(*self._host_port(), _RENDEZVOUS_SECONDS, self._stopping)
        gang = GangRendezvous(
            run_id=self._run_id,
            hall=self._hall or Hall(*self._host_port(), shared_secret(self._config.mesh.nodes)),
            node_rank=rank,
            nodes=config.mesh.nodes,
            first_round=self._last_round(store),
            timeout=_RENDEZVOUS_SECONDS,
            stopping=lambda: self._stop.requested,
        )
        gang.connect()
        if self._herald is not None:
            self._herald.close()
        agreement = Agreement(gang, run, store, config, self._events)
        if store is not None:
            self._uploads = Uploads(config, run, store, rank, self._events, self._board, self._metrics, self._claims.checkpoints)
        node = NodeContext(
            config=config,
            run=run,
            name=self._name,
            board=self._board,
            events=self._events,
            metrics=self._metrics,
            stop=self._stop,
            notices=self._notices,
            began=self._began,
        )
        supervisor = Supervisor(node, Collaborators(gang=gang, agreement=agreement, uploads=self._uploads))
        try:
            codes = supervisor.run().return_values
            return self._finish().verdict(ExitCode(max(codes.values())), supervisor.restarts)
        except EndedError:
            raise
        except Exception as error:  # tell the other nodes, which would otherwise wait for this one until their timeout
            verdict = self.verdict_of(error)
            with suppress(EndedError):
                gang.give_up(verdict)
            raise GaveUpError(verdict) from error
        finally:
            with suppress(EndedError):
                gang.leave()

    def _finish(self) -> Finish:
        return Finish(
            config=self._config,
            run=self._run,
            node_rank=self._options.node_rank,
            board=self._board,
            events=self._events,
            claims=self._claims,
            uploads=self._uploads,
            stop=self._stop,
        )

    def _last_round(self, store: Store | None) -> int:
        """The newest round of this attempt in this directory or the store: names of checkpoints are never used twice."""
        here = json.loads(self._run.resume.read_text())["round"] if self._run.resume.exists() else 0
        there = next_round(store, self._config.job.attempt) - 1 if store is not None and self._options.node_rank == 0 else 0
        return max(0, here, there)

    def _host_port(self) -> tuple[str, int]:
        return parted(self._options.rendezvous)


def _modelling(config: TrainerConfig) -> tuple[str, ...]:
    """The module of transformers that defines the model, where the config names its type."""
    kind = (config.model.config or {}).get("model_type")
    return (f"transformers.models.{kind}.modeling_{kind}",) if isinstance(kind, str) and kind.isidentifier() else ()
