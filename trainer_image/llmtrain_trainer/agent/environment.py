"""Environment variables of an agent: those it sets for its ranks, and the secret that it reads."""

from __future__ import annotations

import os
import secrets

from llmtrain_trainer.agent.outcome import UnfitError
from llmtrain_trainer.config import RENDEZVOUS_SECRET
from llmtrain_trainer.config.listen import LOOPBACK
from llmtrain_trainer.rendezvous.wire import SHORTEST

_LOOPBACK = ("localhost", *LOOPBACK)


def set_for_ranks(device: str, rendezvous_host: str) -> None:
    """Environment of the ranks' server and of every rank, set before the server starts. Variables that are set already keep their value."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy starts its threads when imported; the server may have none
    os.environ.setdefault("DS_ACCELERATOR", device)  # otherwise DeepSpeed looks for a GPU when it is imported
    os.environ["TORCH_ELASTIC_WORKER_IDENTICAL"] = "1"  # every node has the same number of ranks
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # the agent reports a lost peer itself, in one line
    if rendezvous_host in _LOOPBACK:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")


def shared_secret(nodes: int) -> str:
    """The secret of the attempt; a single node draws one itself. Raises UnfitError."""
    given = os.environ.get(RENDEZVOUS_SECRET, "")
    if not given and nodes == 1:
        return secrets.token_hex(32)
    if len(given) < SHORTEST:
        message = (
            f"{RENDEZVOUS_SECRET} has {len(given)} characters: nodes need a shared secret of at least {SHORTEST}, "
            "so that no other process can join them. "
            "Draw a new one for each attempt and set it on all its nodes."
        )
        raise UnfitError("BadConfig", message)
    return given
