"""Jobs as the lines of a table, for `llmtrain get`. Pure: the time is an argument. Plain columns, so that other programs can read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from llmtrain_operator.api.job.status import TrainingProgress
from llmtrain_operator.life.from_objects import status_of
from llmtrain_operator.life.times import seconds_of
from llmtrain_trainer.config.formats import span

NONE = "-"
WIDE = ("ATTEMPT", "LAYOUT", "NODES", "GPUS", "MESSAGE")
"""Columns of -o wide."""


def table(jobs: Iterable[dict[str, Any]], now: float, *, wide: bool = False, namespaces: bool = False) -> list[str]:
    """The header, then one line per job."""
    left_out = {*(() if wide else WIDE), *(() if namespaces else ("NAMESPACE",))}
    rows = [cells(job, now) for job in jobs]
    columns = [name for name in _HEAD if name not in left_out]
    return aligned([columns, *([row[name] for name in columns] for row in rows)])


def cells(job: dict[str, Any], now: float) -> dict[str, str]:
    """The text of each column for one job."""
    meta, status = job["metadata"], status_of(job.get("status") or {})
    plan = status.plan
    return {
        "NAMESPACE": str(meta["namespace"]),
        "NAME": str(meta["name"]),
        "PHASE": status.phase or "Unseen",
        **_progress(status.progress or TrainingProgress()),
        "GOODPUT": _share(status.goodput.ratio if status.goodput else None),
        "RESTARTS": str(status.restarts.total if status.restarts else 0),
        "CHECKPOINT": age(status.checkpoint.time if status.checkpoint else None, now),
        "QUEUE": str(((job.get("spec") or {}).get("scheduling") or {}).get("queue") or NONE),
        "AGE": age(meta.get("creationTimestamp"), now),
        "ATTEMPT": _text(status.attempt),
        "LAYOUT": _text(plan.layout if plan else None),
        "NODES": _text(plan.nodes if plan else None),
        "GPUS": _text(plan.gpus if plan else None),
        "MESSAGE": _text(status.message),
    }


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell, three spaces between them."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def age(time: str | None, now: float) -> str:
    """How long ago; a dash if there is no time."""
    since = seconds_of(time)
    return NONE if since is None else span(now - since)


def _progress(done: TrainingProgress) -> dict[str, str]:
    return {
        "STEP": NONE if done.step is None else f"{done.step}/{_text(done.target_steps)}",
        "DONE": NONE if done.percent is None else f"{done.percent}%",
        "ETA": _text(done.eta),
        "LOSS": NONE if done.loss is None else f"{done.loss:.4f}",
        "TOK/S/GPU": NONE if done.tokens_per_second_per_gpu is None else f"{done.tokens_per_second_per_gpu:.0f}",
        "MFU": _share(done.mfu),
    }


def _share(ratio: float | None) -> str:
    return NONE if ratio is None else f"{ratio:.0%}"


def _text(value: object) -> str:
    return NONE if value is None else str(value)


_HEAD = tuple(cells({"metadata": {"name": "", "namespace": ""}}, 0.0))
