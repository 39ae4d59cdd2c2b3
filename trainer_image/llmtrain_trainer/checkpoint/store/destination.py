"""Opens the store of a destination in the manifest."""

from __future__ import annotations

import os
from pathlib import Path

from llmtrain_trainer.checkpoint.store.errors import StoreRefusedError
from llmtrain_trainer.checkpoint.store.file_store import FileStore
from llmtrain_trainer.checkpoint.store.retry import Backoff
from llmtrain_trainer.checkpoint.store.store import Store, Traffic
from llmtrain_trainer.config import place
from llmtrain_trainer.config.mounts import resolve

DOUBT = "LLMTRAIN_STORE_DOUBT_SECONDS"
"""Environment variable: seconds for which implausible content of a bucket is read again at a start. Default: 90."""


def open_store(uri: str, backoff: Backoff | None = None, traffic: Traffic | None = None) -> Store:
    """Open file:///absolute/path, pvc://claim/path or s3://bucket/prefix. Creates nothing and sends nothing yet."""
    backoff = backoff or Backoff(doubt=_doubt())
    try:
        scheme, _, rest = resolve(place(uri)).partition("://")
    except ValueError as error:
        raise StoreRefusedError(f"checkpoint.destination is {uri!r}: {error}.") from error
    if scheme == "file":
        return FileStore(Path(rest))
    if scheme == "s3":
        from llmtrain_trainer.checkpoint.store.s3_store import S3Store  # botocore takes half a second to import

        bucket, _, prefix = rest.partition("/")
        return S3Store(bucket, prefix, backoff, traffic=traffic)
    raise StoreRefusedError(f"checkpoint.destination is {uri!r}; it must be s3://bucket/prefix, file:///absolute/path or pvc://claim/path.")


def _doubt() -> float:
    """The patience in seconds. Raises StoreRefusedError if it is not a number."""
    given = os.environ.get(DOUBT) or "90"
    if not given.isascii() or not given.isdecimal() or len(given) > 6:
        raise StoreRefusedError(f"{DOUBT} is {given!r}; it must be a whole number of seconds.")
    return float(given)
