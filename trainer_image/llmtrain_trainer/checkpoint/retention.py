"""Which checkpoints may be deleted, once a newer checkpoint was verified and committed. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from llmtrain_trainer.checkpoint.manifest import Name

FEWEST = 2
"""Fewest committed checkpoints to keep: the newest may turn out bad when it is read."""


def expired(
    found: Mapping[Name, bool], *, keep: int, keep_every_steps: int | None, busy: Collection[Name] = (), doubtful: Collection[Name] = ()
) -> list[Name]:
    """Names to delete, oldest first.

    found: every name in the store, True where it is committed. busy: being uploaded. doubtful: committed while training diverged, or
    found bad by this run; they push out none of the others. Of the committed ones the newest `keep` stay, and as many without a doubt;
    those whose step is a multiple of `keep_every_steps`; and those of a later step than the newest: what is ahead is worth more.
    One without COMMIT is garbage once a newer one is committed.
    """
    committed = sorted(name for name, sealed in found.items() if sealed)
    if not committed:
        return []
    count, newest = max(keep, FEWEST), committed[-1]
    stay = {*committed[-count:], *[name for name in committed if name not in doubtful][-count:]}
    stay |= {name for name in committed if name.step > newest.step or (keep_every_steps and name.step % keep_every_steps == 0)}
    garbage = [name for name, sealed in found.items() if not sealed and name < newest and name not in busy]
    return sorted([name for name in committed if name not in stay] + garbage)


def for_room(found: Mapping[Name, bool], *, keep_every_steps: int | None, doubtful: Collection[Name] = ()) -> Name | None:
    """The one to delete where the disk has no room for the next save: the oldest that is neither the newest good one nor kept for ever.

    To be called only when the newest good one was verified. None: nothing more may go.
    """
    good = sorted(name for name, sealed in found.items() if sealed and name not in doubtful)
    if not good:
        return None
    older = (name for name, sealed in found.items() if sealed and name < good[-1] and name.step <= good[-1].step)
    return min((name for name in older if not (keep_every_steps and name.step % keep_every_steps == 0)), default=None)
