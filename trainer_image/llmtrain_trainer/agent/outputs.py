"""Writes the report, and copies report and exports to their destination.

<destination>/published.json    the owner of export/ and report/, and every file in them
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from llmtrain_trainer.checkpoint.commit import STALE_UPLOAD
from llmtrain_trainer.checkpoint.manifest import Written, encode
from llmtrain_trainer.checkpoint.store.destination import open_store
from llmtrain_trainer.checkpoint.store.errors import MissingError, StoreError
from llmtrain_trainer.checkpoint.store.store import Store
from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.config.mounts import resolve
from llmtrain_trainer.run_dir.layout import RunDir

_FILES_AT_ONCE = 4
_RECORD = "published.json"
_UNRECORDED = f"holds files in export/ of which no {_RECORD} tells: those that this run exports too are replaced, the others stay."


class PublishedOutputs(Written):
    """The content of published.json."""

    namespace: str
    job: str
    workdir: str | None
    """Working directory of a run without an operator: runs with the same name in two places are different runs."""

    files: tuple[str, ...]
    """Keys below the destination."""


def destination(config: TrainerConfig) -> str | None:
    """Where exports and report are stored: output.destination, or beside the checkpoints; None: they stay in the run directory."""
    if config.output.destination is not None:
        return resolve(config.output.destination)
    return resolve(config.checkpoint.destination) if config.checkpoint is not None else None


def field(config: TrainerConfig) -> str:
    """The field of the manifest that sets the destination."""
    return "spec.output.destination" if config.output.destination is not None else "spec.checkpoint.destination"


def to_be_replaced(config: TrainerConfig, run: RunDir, store: Store) -> str | None:
    """One sentence if the destination has exports of another run. Raises StoreError."""
    there, ours = _published(store), _record(config, run, ())
    if not config.output.export or (there is not None and _whose(there) == _whose(ours)):
        return None
    if there is None:
        return f"{field(config)} {store.uri()} {_UNRECORDED}" if store.entries("export/") else None
    return f"{field(config)} {store.uri()} holds what {_named(there, ours)} exported: this run replaces it when training is complete."


def publish(config: TrainerConfig, run: RunDir) -> str | None:
    """Copy export/ and report/ to the destination and return it. Files of an earlier run that this one does not have are deleted,
    so that they are no mixture of two models. Raises StoreError."""
    uri = destination(config)
    if uri is None:
        return None
    store = open_store(uri)
    files = {f"{root.name}/{path.relative_to(root)}": path for root in (run.export, run.report) for path in _files(root)}
    before = _published(store)
    stale = sorted(set(before.files if before else ()) - set(files))
    store.put_bytes(_RECORD, encode(_record(config, run, (*files, *stale))))
    with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
        for future in [pool.submit(store.put_file, path, key) for key, path in files.items()]:
            future.result()
    if stale:
        store.delete(stale)
        store.put_bytes(_RECORD, encode(_record(config, run, tuple(files))))
    with suppress(StoreError):  # a draft that an earlier run left
        store.abort_stale_uploads(STALE_UPLOAD)
    return uri


def write_report(config: TrainerConfig, run: RunDir) -> None:
    """Write report/ from the run directory."""
    if not config.output.report:
        return
    from llmtrain_trainer.report import write_report as write  # matplotlib takes a second to import

    write(run, [run], run.report)


def _files(directory: Path) -> list[Path]:
    return [path for path in sorted(directory.rglob("*")) if path.is_file()] if directory.is_dir() else []


def _record(config: TrainerConfig, run: RunDir, files: Sequence[str]) -> PublishedOutputs:
    workdir = None if "NODE_NAME" in os.environ else str(run.root)
    return PublishedOutputs(namespace=config.job.namespace, job=config.job.name, workdir=workdir, files=tuple(files))


def _whose(published: PublishedOutputs) -> tuple[str, str, str | None]:
    return published.namespace, published.job, published.workdir


def _named(other: PublishedOutputs, ours: PublishedOutputs) -> str:
    """The name of the other job; jobs of another namespace are not named."""
    if other.namespace != ours.namespace:
        return "a job of another namespace"
    return f"{other.namespace}/{other.job}{f' (run in {other.workdir})' if other.workdir else ''}"


def _published(store: Store) -> PublishedOutputs | None:
    """The content of published.json; None if it is missing or unreadable. Only keys that `publish` could have written are accepted."""
    try:
        found = PublishedOutputs.model_validate_json(store.get_bytes(_RECORD))
    except (MissingError, ValidationError):
        return None
    return found.model_copy(update={"files": tuple(key for key in found.files if _ours(key))})


def _ours(key: str) -> bool:
    parts = key.split("/")
    return parts[0] in ("export", "report") and len(parts) > 1 and not {"", ".", ".."} & set(parts)
