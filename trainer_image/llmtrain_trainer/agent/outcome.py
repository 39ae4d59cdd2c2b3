"""How a node's work can end, as exceptions that carry the verdict through the layers above. Caught in node.py."""

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
    """The gang gives up: it failed in a way that a restart in place does not mend."""


class LostGangError(EndedError):
    """Another node, or the store on node 0, does not answer."""

    def __init__(self, message: str) -> None:
        super().__init__(verdict_for("PeerLost", f"Lost the other nodes: {message}"))


class UnfitError(EndedError):
    """This node, its configuration or its data cannot be used."""

    def __init__(self, reason: str, message: str, code: ExitCode | None = None) -> None:
        super().__init__(verdict_for(reason, message, code=code))


class FencedError(EndedError):
    """A later gang has taken this one's place: its checkpoints stand in the store."""

    def __init__(self, attempt: int, newest: Name, where: str) -> None:
        message = f"{where} holds {newest}, written by a later attempt than this one ({attempt}): this one ends and writes no more."
        super().__init__(verdict_for("Fenced", message, stored_attempt=newest.attempt))


class DestinationInUseError(EndedError):
    """Another run that lives writes into the destination."""

    def __init__(self, message: str) -> None:
        super().__init__(verdict_for("DestinationInUse", message))


class DisownedError(EndedError):
    """Another run has taken the destination, since this one was not heard of for a while."""

    def __init__(self, other: str, where: str) -> None:
        message = f"{where} was taken over by {other} while this run did not renew its ownership: this one ends and writes no more."
        super().__init__(verdict_for("Fenced", message))


class StoppedError(Exception):
    """A stop was asked for while nothing trained."""
