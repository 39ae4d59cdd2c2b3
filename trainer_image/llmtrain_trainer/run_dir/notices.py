"""What a person must know of a run although it goes on: what was dropped, cut, changed or guessed. One sentence each.

`tell` writes it to notices.jsonl of the run directory, from whichever process found it. The agent passes it on: as an event at once, in
/status, and in the verdict; from there it reaches the last lines of `llmtrain run`, the job's status and the report.
"""

from __future__ import annotations

import json
import time

from llmtrain_trainer.run_dir.layout import RunDir, append_row, read_rows

MOST = 50
"""Notices of one node that are passed on; the file keeps all."""

MOST_CHARACTERS = 1000


def tell(run: RunDir, sentence: str) -> None:
    """Note one sentence, once, however often it is told."""
    sentence = " ".join(sentence.split())
    if sentence not in (row["message"] for row in read_rows(run.notices)):
        append_row(run.notices, json.dumps({"time": time.time(), "message": sentence}))


def told(run: RunDir) -> tuple[str, ...]:
    """The sentences noted so far, oldest first, each shortened to MOST_CHARACTERS; past MOST of them one says how many more there are."""
    found = tuple(dict.fromkeys(_shortened(str(row["message"])) for row in read_rows(run.notices)))
    if len(found) <= MOST:
        return found
    return (*found[: MOST - 1], f"{len(found) - MOST + 1} more notices are in {run.notices}.")


def forget(run: RunDir) -> None:
    """Begin anew: what an earlier start told is found again where it still holds."""
    run.notices.unlink(missing_ok=True)


def _shortened(sentence: str) -> str:
    return sentence if len(sentence) <= MOST_CHARACTERS else f"{sentence[: MOST_CHARACTERS - 3]}..."
