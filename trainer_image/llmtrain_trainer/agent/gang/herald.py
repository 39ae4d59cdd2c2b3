"""Until the gang meets, each node hears at once that another one cannot come, and why. Where there are several.

Node 0 opens the rendezvous before it prepares anything. A node that fails writes its verdict to the key where the gang keeps it; the
others look there while they prepare and wait. Imports no torch, which the server of the ranks still imports then.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from llmtrain_trainer.agent.gang.hall import Hall
from llmtrain_trainer.agent.outcome import GaveUpError
from llmtrain_trainer.config import Verdict
from llmtrain_trainer.rendezvous import wire
from llmtrain_trainer.rendezvous.connection import Connection

_LOOK_SECONDS = 1.0
_TELL_SECONDS = 5.0
"""How long a node that failed tries to reach node 0, which may not have started."""

_FAREWELL_SECONDS = 15.0
"""How long node 0 stays for the others to read its verdict; one that has not started by then does not hear it."""


class Herald:
    """One per agent, from its start until the gang has met."""

    def __init__(self, hall: Hall, run_id: str, node_rank: int, nodes: int, stopping: Callable[[], bool]) -> None:
        """`hall` is open on node 0."""
        self._hall, self._prefix, self._rank, self._nodes, self._stopping = hall, f"gang/{run_id}", node_rank, nodes, stopping
        self._heard: Verdict | None = None
        self._closed = threading.Event()
        threading.Thread(target=self._listen, name="herald", daemon=True).start()

    def look(self) -> None:
        """Raises GaveUpError with the verdict of the node that cannot come."""
        if self._heard is not None:
            raise GaveUpError(self._heard)

    def tell(self, verdict: Verdict) -> None:
        """Say that this node cannot come. The first verdict of all stands. Node 0 stays until the others have read it."""
        self.close()
        with suppress(ConnectionError):
            connection = Connection(*self._hall.address, self._hall.secret, _TELL_SECONDS)
            connection.ask(wire.COMPARE, f"{self._prefix}/verdict", "", verdict.model_dump_json())
            connection.ask(wire.SET, f"{self._prefix}/left/{self._rank}", "yes")
            others = [f"{self._prefix}/left/{node}" for node in range(self._nodes)]
            until = time.monotonic() + _FAREWELL_SECONDS
            while self._rank == 0 and connection.ask(wire.CHECK, *others)[0] != wire.OK:
                if time.monotonic() > until or self._stopping():
                    return
                time.sleep(0.05)

    def close(self) -> None:
        """Listen no more."""
        self._closed.set()

    def _listen(self) -> None:
        connection = None
        while not self._closed.is_set():
            try:
                connection = connection or Connection(*self._hall.address, self._hall.secret, 0.0)
                found = connection.ask(wire.GET, f"{self._prefix}/verdict")
                if found[0] == wire.OK:
                    self._heard = Verdict.model_validate_json(found[1])
                    connection.ask(wire.SET, f"{self._prefix}/left/{self._rank}", "yes")
                    return
            except ConnectionError:  # node 0 has not begun, or is gone: others tell that
                connection = None
            self._closed.wait(_LOOK_SECONDS)
        if connection is not None:
            connection.close()
