"""newest.json at the root of a destination: the name of the checkpoint that was committed last.

It is read by its name. A listing without checkpoints is thus told from a place where none was committed yet.
"""

from __future__ import annotations

from pydantic import ValidationError

from llmtrain_trainer.checkpoint.manifest import Name, Written, encode
from llmtrain_trainer.checkpoint.store.store import Store, read_or_none

NEWEST = "newest.json"


class Newest(Written):
    """The content of newest.json."""

    name: str


def record_newest(store: Store, name: str) -> None:
    """Write down that this checkpoint was committed last. Raises StoreError."""
    store.put_bytes(NEWEST, encode(Newest(name=name)))


def recorded_newest(store: Store) -> Name | None:
    """The checkpoint that was committed last; None if none was, or what is there is no newest.json. Raises StoreError."""
    data = read_or_none(store, NEWEST)
    try:
        return Name.parse(Newest.model_validate_json(data).name) if data is not None else None
    except ValidationError:
        return None


def forget_newest(store: Store) -> None:
    """For a run that begins at step 0 whatever was committed before. Raises StoreError."""
    store.delete([NEWEST])
