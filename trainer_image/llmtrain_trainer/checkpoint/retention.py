"""Which checkpoints may go. Pure; the uploader deletes what comes out, after a newer checkpoint was verified and committed."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from llmtrain_trainer.checkpoint.manifest import Name

FEWEST = 2
"""Never less than this many committed ones: the newest may turn out bad when it is read."""


def expired(found: Mapping[Name, bool], *, keep: int, keep_every_steps: int | None, busy: Collection[Name] = ()) -> list[Name]:
    """Names to delete, oldest first.

    found: every name in the store, True where it is committed. busy: being uploaded. Of the committed ones the newest `keep` stay, and
    those whose step is a multiple of `keep_every_steps`. One without COMMIT is garbage once a newer one is committed.
    """
    committed = sorted(name for name, sealed in found.items() if sealed)
    if not committed:
        return []
    surplus = [name for name in committed[: -max(keep, FEWEST)] if not (keep_every_steps and name.step % keep_every_steps == 0)]
    garbage = [name for name, sealed in found.items() if not sealed and name < committed[-1] and name not in busy]
    return sorted(surplus + garbage)
