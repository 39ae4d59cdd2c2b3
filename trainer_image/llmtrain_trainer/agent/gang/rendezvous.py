"""Where the agents of all nodes meet: a rendezvous for torch.distributed.elastic on a store that node 0 hosts (rendezvous/).

Why not elastic's dynamic rendezvous: our nodes have fixed numbers and all of them take part, so nothing is to be elected; and ranks
must keep their place (a node's rank follows from its number, not from the sort order of host names) and meet again within
milliseconds. The protocol, per round n (every start of the ranks is a round):

    asked                    n: the newest round that any node wants
    round/<n>/here/<node>    the node is ready for round n; the value is the evidence of its failure in the last one
    round/<n>/...            what the nodes agree on before they start (see agreement.py)
    verdict                  the gang gives up, and why

A node that wants a round raises `asked` from n to n+1 by compare-and-set, so two nodes that fail at once ask for the same round. A node
that sees `asked` above its own round stops its ranks and joins.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from torch._C._distributed_c10d import PrefixStore, Store  # torch.distributed has them too, but not for a type checker
from torch.distributed import DistError
from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousInfo, RendezvousStoreInfo

from llmtrain_trainer.agent.gang.hall import Hall
from llmtrain_trainer.agent.outcome import GaveUpError, LostGangError, StoppedError
from llmtrain_trainer.config import Verdict
from llmtrain_trainer.rendezvous.client import SecretStore

_POLL_SECONDS = 0.03
_FAREWELL_SECONDS = 15.0
_HURRIED_FAREWELL_SECONDS = 1.0
"""Timeout for the end of a gang that gave up: one of its nodes is usually dead and never answers, and the next gang waits for this one."""


class SupersededError(Exception):
    """Another node asked for a newer round while this one was being formed."""


class GangRendezvous(RendezvousHandler):
    """One per agent. Every wait ends early on a stop request or a verdict."""

    def __init__(
        self,
        *,
        run_id: str,
        hall: Hall,
        node_rank: int,
        nodes: int,
        first_round: int,
        timeout: float,
        stopping: Callable[[], bool],
    ) -> None:
        """`hall`: with the secret of the attempt, the same on all nodes. `first_round`: no round up to this was used before. `timeout`:
        seconds to wait for the other nodes."""
        self.node_rank, self.nodes, self.round = node_rank, nodes, 0
        self._hall, self.first_round = hall, first_round
        self._run_id, self._timeout, self._stopping = run_id, timeout, stopping
        self._evidence = ""
        self._gave_up = False
        self._store: Store | None = None

    # -- torch.distributed.elastic's side

    def get_backend(self) -> str:
        return "llmtrain"

    @property
    def use_agent_store(self) -> bool:
        return True

    def get_run_id(self) -> str:
        return self._run_id

    def is_closed(self) -> bool:
        return False

    def set_closed(self) -> None:
        """The gang closes by a verdict."""

    def shutdown(self) -> bool:
        return True

    def num_nodes_waiting(self) -> int:
        """1 when a node asked for a newer round than the one that runs. Raises GaveUpError when the gang has a verdict."""
        self.look_out()
        return int(self.asked() > self.round)

    def next_rendezvous(self) -> RendezvousInfo:
        """Wait until every node is ready for the newest round that was asked for."""
        while True:
            try:
                self._form()
            except SupersededError:
                continue
            address = RendezvousStoreInfo(self.host, self.port)
            return RendezvousInfo(self._round_store(), self.node_rank, self.nodes, address)

    # -- ours

    @property
    def host(self) -> str:
        """Of node 0, as the others reach it."""
        return self._hall.host

    @property
    def port(self) -> int:
        """Of the rendezvous."""
        return self._hall.port

    @property
    def secret(self) -> str:
        """Of the attempt."""
        return self._hall.secret.decode()

    @property
    def leads(self) -> bool:
        """Node 0 decides for all."""
        return self.node_rank == 0

    def connect(self) -> None:
        """Open the store (node 0) or connect to it. Raises LostGangError."""
        try:
            store = self._open()
        except (DistError, OSError, RuntimeError) as error:
            raise LostGangError(f"node 0 cannot be reached at {self.host}:{self.port}: {_first_line(error)}") from error
        self._store = PrefixStore(f"gang/{self._run_id}", store)
        if self.leads:
            self._store.compare_set("asked", "", str(self.first_round))

    def asked(self) -> int:
        """The newest round that any node wants."""
        return int(self.read("asked") or 0)

    def fail(self, evidence: str) -> None:
        """Keep the evidence of why this node's ranks ended; it goes to the leader with every round that is tried from now on."""
        self._evidence = evidence

    def evidence(self) -> list[str]:
        """What each node said of the end of the last round; an empty text where nothing was wrong."""
        return [self.wait(f"round/{self.round}/here/{node}") for node in range(self.nodes)]

    def absent(self) -> frozenset[int]:
        """Nodes that have not come to the newest round that this one came to. Raises LostGangError."""
        return frozenset(node for node in range(self.nodes) if self.read(f"round/{self.round}/here/{node}") is None)

    def give_up(self, verdict: Verdict) -> None:
        """Tell every node that it is over."""
        self._gave_up = True
        self.write("verdict", verdict.model_dump_json())

    def leave(self) -> None:
        """Last call. Node 0 hosts the store, so it stays until every other node has read what it needs and left too."""
        self.write(f"left/{self.node_rank}", "yes")
        began = time.monotonic()
        keys = [f"left/{node}" for node in range(self.nodes)]
        while self.leads and not self._all_set(keys):
            hurried = self._gave_up and self._stopping()
            if time.monotonic() - began > (_HURRIED_FAREWELL_SECONDS if hurried else _FAREWELL_SECONDS):
                return
            time.sleep(_POLL_SECONDS)

    def look_out(self) -> None:
        """Raises GaveUpError when the gang has a verdict."""
        verdict = self.read("verdict")
        if verdict:
            self._gave_up = True
            raise GaveUpError(Verdict.model_validate_json(verdict))

    def write(self, key: str, value: str) -> None:
        """Set a key of the gang. Raises LostGangError."""
        try:
            self._opened().set(key, value)
        except (DistError, RuntimeError) as error:
            raise self._lost(error) from error

    def read(self, key: str) -> str | None:
        """Value of a key, or None where it is not set. Raises LostGangError."""
        try:
            store = self._opened()
            return store.get(key).decode() if store.check([key]) else None
        except (DistError, RuntimeError) as error:
            raise self._lost(error) from error

    def wait(self, key: str, timeout: float | None = None) -> str:
        """Value of a key as soon as it is set. Raises StoppedError, GaveUpError, SupersededError, and LostGangError after the timeout."""
        self._wait([key], timeout)
        return self.read(key) or ""

    def _form(self) -> None:
        """Join the newest round. The first join and a join after a failure ask for a round of their own."""
        wanted = self._ask()
        self.write(f"round/{wanted}/here/{self.node_rank}", self._evidence)
        self.round = wanted
        self._wait([f"round/{wanted}/here/{node}" for node in range(self.nodes)])

    def _ask(self) -> int:
        while True:
            asked = self.asked()
            if asked > self.first_round and self.read(f"round/{asked}/here/{self.node_rank}") is None:
                return asked
            self._opened().compare_set("asked", str(asked), str(asked + 1))

    def _wait(self, keys: Sequence[str], timeout: float | None = None) -> None:
        patience = self._timeout if timeout is None else timeout
        until = time.monotonic() + patience
        while not self._all_set(keys):
            if self._stopping():
                raise StoppedError
            self.look_out()
            if self.asked() > self.round:
                raise SupersededError
            if time.monotonic() > until:
                missing = [key for key in keys if not self._all_set([key])]
                raise LostGangError(f"no answer for {patience:.0f} s from other nodes (waiting for {', '.join(missing)}).")
            time.sleep(_POLL_SECONDS)

    def _all_set(self, keys: Sequence[str]) -> bool:
        try:
            return self._opened().check(list(keys))
        except (DistError, RuntimeError) as error:
            raise self._lost(error) from error

    def _open(self) -> Store:
        if self.leads:
            self._hall.open()
        return SecretStore(*self._hall.address, self._hall.secret, timedelta(seconds=self._timeout))

    def _opened(self) -> Store:
        assert self._store is not None, "connect() comes first"
        return self._store

    def _round_store(self) -> Store:
        return PrefixStore(f"elastic/{self.round}", self._opened())

    def _lost(self, error: Exception) -> LostGangError:
        return LostGangError(f"the connection to node 0 at {self.host}:{self.port} was lost: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
