"""Errors of checkpoints and stores.

StoreError
├── StoreUnreachableError   it may answer later: the caller keeps what it has and tries again
│   └── StoreFullError      there is no room; it may be made
├── StoreRefusedError       it answered no: credentials, bucket or settings have to change
└── MissingError            there is no such key
BadCheckpointError          a checkpoint that must not be loaded, with the reason
ResumeError                 the checkpoint that was asked for by its step cannot be had
└── NoGoodCheckpointError   checkpoints were committed, and none can be resumed from
    ├── NoneVerifiesError   every one is bad
    └── CheckpointsGoneError    none is there any more
"""

from __future__ import annotations


class StoreError(Exception):
    """A request to the store failed; the message names operation, place, code and the way out."""


class StoreUnreachableError(StoreError):
    """No answer, or "later", until the deadline."""


class StoreFullError(StoreUnreachableError):
    """The disk, or this user's quota, is full."""


class StoreRefusedError(StoreError):
    """The store refused the request. A retry without a change will not help."""


class MissingError(StoreError):
    """There is no such key."""


class BadCheckpointError(Exception):
    """A checkpoint that is incomplete, damaged or not committed."""


class ResumeError(ValueError):
    """The step given in checkpoint.resume has no good checkpoint."""


class NoGoodCheckpointError(ResumeError):
    """Checkpoints were committed, but none can be resumed from: a start from step 0 would train everything again."""

    told: str
    """Why."""


class NoneVerifiesError(NoGoodCheckpointError):
    """There are committed checkpoints, but none verifies: a run from step 0 would finally delete them."""

    def __init__(self, where: str, reasons: list[str], most: int = 3) -> None:
        self.told = "; ".join(reasons[:most]) + (f"; and {len(reasons) - most} more" if len(reasons) > most else "")
        super().__init__(
            f"{where} holds committed checkpoints to resume from ({len(reasons)}), but none verifies: {self.told}. None was deleted. "
            "Restore their files, or set checkpoint.resume to none to start from step 0."
        )


class CheckpointsGoneError(NoGoodCheckpointError):
    """A checkpoint was committed, but no committed one is left: deleted by somebody, or the wrong place."""

    def __init__(self, where: str, name: str, record: str) -> None:
        self.told = f"{record} says that {name} was committed there, but neither it nor another committed checkpoint is there"
        super().__init__(
            f"{where}: {self.told}. Restore them; or, to start from step 0, set checkpoint.resume to none, or delete {record} too."
        )
