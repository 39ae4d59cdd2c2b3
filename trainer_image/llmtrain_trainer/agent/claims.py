"""The destinations that this run owns while it lives: that of its checkpoints and, if different, that of its exports."""

from __future__ import annotations

import os
from collections.abc import Callable

from llmtrain_trainer.agent import outputs
from llmtrain_trainer.agent.outcome import DestinationInUseError, DisownedError, UnfitError
from llmtrain_trainer.checkpoint.owner import CHECKPOINTS, OUTPUT, Claim, OwnedError, Purpose, describe_self
from llmtrain_trainer.checkpoint.store.destination import open_store
from llmtrain_trainer.checkpoint.store.errors import StoreError
from llmtrain_trainer.checkpoint.store.store import Store
from llmtrain_trainer.config import TrainerConfig, place
from llmtrain_trainer.config.mounts import resolve
from llmtrain_trainer.run_dir.layout import RunDir
from llmtrain_trainer.run_dir.notices import tell


class Claims:
    """Exists on node 0 only. All destinations are claimed before preparation starts."""

    def __init__(self, config: TrainerConfig, run: RunDir, sleep: Callable[[float], None]) -> None:
        """`sleep` may raise, which ends a wait."""
        self._config, self._run, self._sleep = config, run, sleep
        self.checkpoints: Claim | None = None
        self._output: Claim | None = None

    def take_checkpoints(self, store: Store) -> None:
        """Raises DestinationInUseError if another live run owns it, and StoreError."""
        self.checkpoints = self._take(store, CHECKPOINTS)

    def take_output(self) -> None:
        """Writes a notice about exports of other jobs. Raises DestinationInUseError, and UnfitError if the destination cannot be used."""
        where = outputs.destination(self._config)
        if where is None:
            return
        try:
            store = open_store(where)
        except StoreError as error:
            raise UnfitError("BadConfig", str(error)) from error
        try:
            if self._apart(where):
                self._output = self._take(store, OUTPUT)
            if said := outputs.to_be_replaced(self._config, self._run, store):
                tell(self._run, said)
        except StoreError as error:
            message = f"{outputs.field(self._config)} {store.uri()} cannot be used: {error}"
            raise UnfitError("StoreUnreachable", message) from error

    def check_output(self) -> None:
        """Check the ownership before anything is published. Raises DisownedError."""
        if self._output is not None and not self._output.holds():
            raise DisownedError(self._output.lost_to or "another run", str(self._config.output.destination))

    def release(self) -> None:
        """Give everything back."""
        for claim in (self.checkpoints, self._output):
            if claim is not None:
                claim.release()

    def _apart(self, where: str) -> bool:
        checkpoint = self._config.checkpoint
        return checkpoint is None or place(where) != place(resolve(checkpoint.destination))

    def _take(self, store: Store, purpose: Purpose) -> Claim:
        job, supervised = self._config.job, "NODE_NAME" in os.environ
        owner = describe_self(job.namespace, job.name, job.attempt, supervised=supervised, workdir=str(self._run.root))
        claim = Claim(store, owner, purpose=purpose, sleep=self._sleep)
        try:
            if said := claim.take():
                tell(self._run, said)
        except OwnedError as error:
            raise DestinationInUseError(str(error)) from error
        claim.keep()
        return claim
