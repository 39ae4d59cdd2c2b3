"""How the work of a node can end: exceptions that carry the verdict. node.py catches them."""

from __future__ import annotations

from llmtrain_trainer.checkpoint.manifest import Name
from llmtrain_trainer.config import ExitCode, Verdict
from llmtrain_trainer.config.tables.failures import verdict_for


class EndedError(Exception):
    """The work is over; `verdict` says how."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.message)
        self.verdict = verdict


class GaveUpError(EndedError):
    """The gang gives up: a restart in place would not fix the failure."""


class LostGangError(EndedError):
    """Another node, or the store on node 0, does not answer."""

    def __init__(self, message: str) -> None:
        super().__init__(verdict_for("PeerLost", f"Lost the other nodes: {message}"))


class UnfitError(EndedError):
    """This node, its configuration or its data cannot be used."""

    def __init__(self, reason: str, message: str, code: ExitCode | None = None) -> None:
        super().__init__(verdict_for(reason, message, code=code))


class FencedError(EndedError):
    """A later gang has replaced this one: its checkpoints are in the store."""

    def __init__(self, attempt: int, newest: Name, where: str) -> None:
        message = f"{where} holds {newest}, written by a later attempt than this one ({attempt}): this one ends and writes no more."
        super().__init__(verdict_for("Fenced", message, stored_attempt=newest.attempt))


class DestinationInUseError(EndedError):
    """Another live run writes to the destination."""

    def __init__(self, message: str) -> None:
        super().__init__(verdict_for("DestinationInUse", message))


class DisownedError(EndedError):
    """Another run has taken the destination, because this one had not renewed its ownership in time."""

    def __init__(self, other: str, where: str) -> None:
        message = f"{where} was taken over by {other} while this run did not renew its ownership: this one ends and writes no more."
        super().__init__(verdict_for("Fenced", message))


class StoppedError(Exception):
    """A stop was requested before training began."""
