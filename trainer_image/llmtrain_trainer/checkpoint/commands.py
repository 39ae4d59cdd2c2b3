"""`python -m llmtrain_trainer checkpoints list|verify`: the checkpoints in a store and whether they are intact."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

from llmtrain_trainer.checkpoint.restore import Found, list_checkpoints, read, verify
from llmtrain_trainer.checkpoint.store.destination import open_store
from llmtrain_trainer.checkpoint.store.errors import BadCheckpointError, StoreError
from llmtrain_trainer.checkpoint.store.store import Store
from llmtrain_trainer.config import ExitCode
from llmtrain_trainer.config.formats import size


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRow:
    """One checkpoint; the element of `-o json`."""

    name: str
    step: int
    attempt: int
    round: int
    bytes: int
    files: int
    """Bytes of the shards and DCP's index; a committed checkpoint is counted without the protocol's own files."""

    committed: bool
    created: float | None
    """Seconds since the epoch; None if the manifest cannot be read."""

    verified: bool | None
    """True or False after `verify`, None if digests were not compared."""

    problem: str | None


def checkpoints(
    action: Literal["list", "verify"], destination: str, output: Literal["text", "json"], say: Callable[[str], None] = print
) -> int:
    """Print the rows, newest first. Returns 0; 1 when a committed checkpoint is bad; 74 when the store cannot be read."""
    try:
        store = open_store(destination)
        found = list_checkpoints(store)
        rows = [_row(one, store, digests=action == "verify") for one in found]
    except StoreError as error:
        say(json.dumps({"error": str(error)}) if output == "json" else str(error))
        return ExitCode.STORE
    say(json.dumps([asdict(row) for row in rows], indent=1) if output == "json" else _table(rows, destination))
    return int(any(row.committed and row.problem for row in rows))


def _row(found: Found, store: Store, digests: bool) -> CheckpointRow:
    name, manifest, problem = found.name, None, None
    try:
        manifest = read(found, store)
        if digests:
            verify(found, store)
    except BadCheckpointError as error:
        problem = str(error)
    return CheckpointRow(
        name=str(name),
        step=name.step,
        attempt=name.attempt,
        round=name.round,
        bytes=manifest.bytes if manifest else found.bytes,
        files=len(manifest.files) if manifest else len(found.sizes),
        committed=found.committed,
        created=manifest.created if manifest else None,
        verified=problem is None if digests else None,
        problem=problem,
    )


def _table(rows: list[CheckpointRow], destination: str) -> str:
    if not rows:
        return f"No checkpoints in {destination}."
    lines = [f"{'NAME':28} {'STEP':>9} {'SIZE':>10} {'FILES':>6}  {'CREATED (UTC)':20} STATE"]
    for row in rows:
        created = datetime.fromtimestamp(row.created, UTC).strftime("%Y-%m-%d %H:%M:%S") if row.created else "-"
        state = row.problem or ("verified" if row.verified else "committed")
        lines.append(f"{row.name:28} {row.step:>9} {size(row.bytes):>10} {row.files:>6}  {created:20} {state}")
    return "\n".join(lines)
