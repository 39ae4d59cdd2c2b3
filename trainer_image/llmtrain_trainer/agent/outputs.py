"""What is left when training is over: the report, and its and the exports' way to their destination. Called by node.py on node 0."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from llmtrain_trainer.checkpoint.commit import STALE_UPLOAD
from llmtrain_trainer.checkpoint.destination import open_store
from llmtrain_trainer.checkpoint.errors import StoreError
from llmtrain_trainer.checkpoint.store import Store
from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.mounts import resolve
from llmtrain_trainer.run_dir import RunDir

_FILES_AT_ONCE = 4


def destination(config: TrainerConfig) -> str | None:
    """Where exports and report go: output.destination, else beside the checkpoints; None: they stay in the run directory."""
    if config.output.destination is not None:
        return resolve(config.output.destination)
    return resolve(config.checkpoint.destination) if config.checkpoint is not None else None


def publish(config: TrainerConfig, run: RunDir) -> str | None:
    """Copy export/ and report/ to the destination and return it. Raises StoreError."""
    uri = destination(config)
    if uri is None:
        return None
    store = open_store(uri)
    for directory in (run.export, run.report):
        _copy(directory, store)
    with suppress(StoreError):  # what an earlier run left half written; training is complete without it
        store.abort_stale_uploads(STALE_UPLOAD)
    return uri


def write_report(config: TrainerConfig, run: RunDir) -> None:
    """report/ from what the run directory holds."""
    if not config.output.report:
        return
    from llmtrain_trainer.report import write_report as write  # matplotlib takes a second to import

    write(run, [run], run.report)


def _copy(directory: Path, store: Store) -> None:
    files = [path for path in sorted(directory.rglob("*")) if path.is_file()] if directory.is_dir() else []
    with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
        for future in [pool.submit(store.put_file, path, f"{directory.name}/{path.relative_to(directory)}") for path in files]:
            future.result()
