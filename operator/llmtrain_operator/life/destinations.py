"""Where jobs write, and which two jobs cannot write at once. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Destinations:
    """Where a job writes; None: nowhere of its own."""

    checkpoints: str | None = None
    exports: str | None = None
    """None: beside the checkpoints."""

    @property
    def places(self) -> tuple[str, ...]:
        """Each place once."""
        return tuple(dict.fromkeys(each for each in (self.checkpoints, self.exports) if each is not None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """Another job that writes to a destination of this one."""

    name: str
    """In a form that may be shown in this job's status."""

    field: str
    """The field of this job, below spec, that names the place."""

    place: str
    """This job's place."""

    because: str
    """What both would do to each other."""


def clash(mine: Destinations, theirs: Destinations) -> tuple[str, str, str] | None:
    """(field, place, because) of the first destination of mine that theirs excludes.

    Checkpoints exclude checkpoints of the same place. Exports exclude exports of the same place, and other jobs' checkpoints of the same
    place, inside it or around it: the prefix of checkpoints belongs to one job.
    """
    if mine.checkpoints is not None and mine.checkpoints == theirs.checkpoints:
        return "checkpoint.destination", mine.checkpoints, "each job would resume from the other's checkpoints"
    exported = "each job would replace what the other stores"
    if mine.exports is not None and (mine.exports == theirs.exports or _nested(mine.exports, theirs.checkpoints)):
        return "output.destination", mine.exports, exported
    if mine.checkpoints is not None and _nested(theirs.exports, mine.checkpoints):
        return "checkpoint.destination", mine.checkpoints, exported
    return None


def _nested(one: str | None, other: str | None) -> bool:
    """Whether both are one place, or one is inside the other."""
    if one is None or other is None:
        return False
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def within(place: str) -> Iterator[str]:
    """A place, and each that it is inside of."""
    start = place.index("://") + 3
    for end in range(len(place), start, -1):
        if end == len(place) or place[end] == "/":
            yield place[:end]
