"""Before each start of the ranks, all nodes agree on the checkpoint: either all have fetched and verified the same one, or none starts.

The leader (node 0) chooses the newest good one; each node fetches it and answers; where one cannot, the leader chooses the next older.

    round/<n>/data/<node>       once: digest of the prepared data
    round/<n>/choice/<k>        leader: the k-th choice, as JSON
    round/<n>/answer/<k>/<node> "ok", "unable: why", or why it is bad
    round/<n>/start/<k>         leader: "yes", or "no" and the next choice follows
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Literal

from llmtrain_trainer.agent.gang.rendezvous import GangRendezvous
from llmtrain_trainer.agent.outcome import GaveUpError
from llmtrain_trainer.agent.telemetry.board import Events
from llmtrain_trainer.checkpoint import restore
from llmtrain_trainer.checkpoint.manifest import MANIFEST, Manifest
from llmtrain_trainer.checkpoint.newest import forget_newest
from llmtrain_trainer.checkpoint.position import Position
from llmtrain_trainer.checkpoint.restore import Found
from llmtrain_trainer.checkpoint.store.errors import (
    BadCheckpointError,
    NoGoodCheckpointError,
    NoneVerifiesError,
    ResumeError,
    StoreError,
)
from llmtrain_trainer.checkpoint.store.store import Store
from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.config.tables.failures import verdict_for
from llmtrain_trainer.data.prepared import Prepared
from llmtrain_trainer.resume.continuation import Resumption, from_start, resumption
from llmtrain_trainer.run_dir.layout import RunDir
from llmtrain_trainer.run_dir.notices import tell

_FETCH_SECONDS = 3600.0
"""Seconds that a node may need to fetch a checkpoint."""

_OK = "ok"
_UNABLE = "unable: "
"""Begins the answer of a node whose store or disk failed; any other answer but ok says that the checkpoint is bad."""


class Agreement:
    """One per agent; without a store every round begins at step 0."""

    def __init__(self, gang: GangRendezvous, run: RunDir, store: Store | None, config: TrainerConfig, events: Events) -> None:
        self._gang, self._run, self._store, self._events = gang, run, store, events
        self._resume: Literal["latest", "none"] | int = config.checkpoint.resume if config.checkpoint is not None else "none"
        self._attempt, self._config = config.job.attempt, config

    def settle(self, *, first: bool) -> Position:
        """Agree for the newest round. `first`: this agent's first start, to which checkpoint.resume applies.

        Raises GaveUpError when the checkpoint that was asked for cannot be had or does not fit the engine, the store does not answer or
        the nodes prepared different data; and whatever GangRendezvous.wait raises.
        """
        refused: set[str] = set()
        if first:
            self._compare_data()
        for turn in itertools.count():
            if self._gang.leads:
                self._gang.write(self._key("choice", turn), json.dumps(self._choose(refused, first=first)))
            name: str | None = json.loads(self._gang.wait(self._key("choice", turn)))
            position, answer = self._fetch(name)
            self._gang.write(self._key("answer", turn, self._gang.node_rank), answer)
            if self._all_agree(turn, name):
                return position
            refused.add(str(name))
        raise AssertionError("itertools.count ends never")

    def _compare_data(self) -> None:
        """Compare the prepared data of all nodes: with different data the loss would not show the fault."""
        self._gang.write(self._key("data", self._gang.node_rank), Prepared.load(self._run.prepared).digest)
        if not self._gang.leads:
            return
        digests = [self._gang.wait(self._key("data", node)) for node in range(self._gang.nodes)]
        different = [node for node, digest in enumerate(digests) if digest != digests[0]]
        if different:
            message = (
                f"Nodes {', '.join(map(str, different))} prepared different data from node 0: a file differs or changed meanwhile. "
                "Give every node the same files, or pin their revision."
            )
            raise self._give_up("BadData", message)

    def _all_agree(self, turn: int, name: str | None) -> bool:
        if self._gang.leads:
            answers = [self._gang.wait(self._key("answer", turn, node), _FETCH_SECONDS) for node in range(self._gang.nodes)]
            unable = [f"node {node}: {answer.removeprefix(_UNABLE)}" for node, answer in enumerate(answers) if answer.startswith(_UNABLE)]
            if unable:  # an older one would not help, and would throw work away
                raise self._give_up("StoreUnreachable", f"{name} cannot be fetched ({'; '.join(unable)}).")
            bad = [f"node {node}: {answer}" for node, answer in enumerate(answers) if answer != _OK]
            if bad:
                self._events.record(
                    "checkpoint_rejected", f"{name} cannot be loaded ({'; '.join(bad)}); trying the previous one.", name=name
                )
            self._gang.write(self._key("start", turn), "no" if bad else "yes")
        return self._gang.wait(self._key("start", turn), _FETCH_SECONDS) == "yes"

    def _choose(self, refused: set[str], *, first: bool) -> str | None:
        """Name of the newest good checkpoint that no node refused; None: start from step 0."""
        if self._store is None:
            return None
        try:
            if first and not refused:
                if self._resume == "none":
                    forget_newest(self._store)
                found = restore.choose(self._store, self._resume, self._events, self._run.restore)
            else:
                found = self._newest(self._store, refused)
        except NoGoodCheckpointError as error:
            raise self._give_up("NoGoodCheckpoint", str(error)) from error
        except ResumeError as error:
            raise self._give_up("BadConfig", str(error)) from error
        except StoreError as error:
            raise self._give_up("StoreUnreachable", f"The checkpoint store cannot be read: {error}") from error
        return str(found.name) if found else None

    def _newest(self, store: Store, refused: set[str]) -> Found | None:
        """The newest good checkpoint. A run that must not resume from the newest takes only its own, or the one it was told to take."""
        there = [found for found in restore.believed(store, self._events) if found.committed and self._may_take(found)]
        good, reasons = restore.first_good(
            [found for found in there if str(found.name) not in refused], store, self._events, self._run.restore
        )
        if good is None and there:
            reasons += [f"{found.name} was refused by a node" for found in there if str(found.name) in refused]
            raise NoneVerifiesError(store.uri(), reasons)
        return good

    def _may_take(self, found: Found) -> bool:
        ours = found.name.attempt == self._attempt and found.name.round > self._gang.first_round
        return self._resume == "latest" or ours or found.step == self._resume

    def _fetch(self, name: str | None) -> tuple[Position, str]:
        """Fetch and verify the checkpoint; the answer is the result."""
        prepared = Prepared.load(self._run.prepared)
        if name is None or self._store is None:
            return self._position(from_start(self._config, prepared)), _OK
        try:
            found, directory = restore.obtain(self._store, name, self._run.restore, self._events)
        except (BadCheckpointError, ResumeError) as error:
            return Position(round=self._gang.round), f"{error}"
        except (StoreError, OSError) as error:
            return Position(round=self._gang.round), f"{_UNABLE}{error}"
        read = Manifest.model_validate_json((directory / MANIFEST).read_bytes())
        return self._position(resumption(read, self._config, prepared), name=name, step=found.step, directory=directory), _OK

    def _position(self, found: Resumption, *, name: str | None = None, step: int = 0, directory: Path | None = None) -> Position:
        """Raises GaveUpError if the run must not resume from it; writes notices about what changed."""
        if self._gang.leads:
            if found.refused is not None:
                raise self._give_up("BadConfig", found.refused)
            for sentence in found.told:
                tell(self._run, sentence)
        return Position(
            round=self._gang.round,
            checkpoint=name,
            step=step,
            directory=str(directory) if directory else None,
            consumed_samples=found.consumed_samples,
            consumed_tokens=found.consumed_tokens,
            target_steps=found.target_steps,
            course=found.course,
        )

    def _give_up(self, reason: str, message: str) -> GaveUpError:
        verdict = verdict_for(reason, message)
        self._gang.give_up(verdict)
        return GaveUpError(verdict)

    def _key(self, kind: str, turn: int, *more: int) -> str:
        return "/".join(map(str, ("round", self._gang.round, kind, turn, *more)))
