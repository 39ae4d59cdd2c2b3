"""What can go wrong between a checkpoint and its store.

StoreError
├── StoreUnreachableError   it may answer later: the caller keeps what it has and tries again
├── StoreRefusedError       it answered no: credentials, bucket or settings have to change
└── MissingError            there is no such key
BadCheckpointError          a checkpoint that must not be loaded, with the reason
ResumeError                 the checkpoint that was asked for by its step cannot be had
"""

from __future__ import annotations


class StoreError(Exception):
    """A request to the store failed; the message names operation, place, code and the way out."""


class StoreUnreachableError(StoreError):
    """No answer, or "later", until the deadline."""


class StoreRefusedError(StoreError):
    """The store answered no. Trying again without a change will not help."""


class MissingError(StoreError):
    """There is no such key."""


class BadCheckpointError(Exception):
    """A checkpoint that is torn, damaged or not committed."""


class ResumeError(ValueError):
    """The step given in checkpoint.resume has no good checkpoint."""
