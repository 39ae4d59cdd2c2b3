"""What a person must know about a run although it continues: what was dropped, truncated, changed or guessed. One sentence each.

`tell` appends a notice to notices.jsonl of the run directory, in whichever process found it. The agent publishes it as an event at once,
in /status, and in the verdict. From there it reaches the last lines of `llmtrain run`, the job's status and the report.
"""

from __future__ import annotations

import json
import time

from llmtrain_trainer.run_dir.layout import RunDir, append_row, read_rows

MOST = 50
"""Most notices of one node that are published; the file keeps all."""

MOST_CHARACTERS = 1000


def tell(run: RunDir, sentence: str) -> None:
    """Append one sentence, unless it was noted before."""
    sentence = " ".join(sentence.split())
    if sentence not in (row["message"] for row in read_rows(run.notices)):
        append_row(run.notices, json.dumps({"time": time.time(), "message": sentence}))


def told(run: RunDir) -> tuple[str, ...]:
    """The notices so far, oldest first, each shortened to MOST_CHARACTERS; of more than MOST, the last one says how many are left out."""
    found = tuple(dict.fromkeys(_shortened(str(row["message"])) for row in read_rows(run.notices)))
    if len(found) <= MOST:
        return found
    return (*found[: MOST - 1], f"{len(found) - MOST + 1} more notices are in {run.notices}.")


def forget(run: RunDir) -> None:
    """Delete the notices of an earlier start: those that still apply are found again."""
    run.notices.unlink(missing_ok=True)


def _shortened(sentence: str) -> str:
    return sentence if len(sentence) <= MOST_CHARACTERS else f"{sentence[: MOST_CHARACTERS - 3]}..."
