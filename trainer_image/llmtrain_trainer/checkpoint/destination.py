"""A destination as the manifest writes it -> its store. Called by everything that reads or writes checkpoints."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from llmtrain_trainer.checkpoint.errors import StoreRefusedError
from llmtrain_trainer.checkpoint.file_store import FileStore
from llmtrain_trainer.checkpoint.retry import Backoff
from llmtrain_trainer.checkpoint.store import Store, Traffic
from llmtrain_trainer.mounts import resolve


def open_store(uri: str, backoff: Backoff | None = None, traffic: Traffic | None = None) -> Store:
    """Open file:///absolute/path, pvc://claim/path or s3://bucket/prefix. Creates nothing and sends nothing yet."""
    backoff = backoff or Backoff()
    parts = urlsplit(resolve(uri))
    if parts.scheme == "file" and parts.path.startswith("/") and not parts.netloc:
        return FileStore(Path(parts.path))
    if parts.scheme == "s3" and parts.netloc:
        from llmtrain_trainer.checkpoint.s3_store import S3Store  # botocore takes half a second to import

        return S3Store(parts.netloc, parts.path.strip("/"), backoff, traffic=traffic)
    raise StoreRefusedError(f"checkpoint.destination is {uri!r}; it must be s3://bucket/prefix, file:///absolute/path or pvc://claim/path.")
