"""The node's own disk: which saves its ranks have finished, and which may be removed.

staging/<name>/ holds the files of this node's ranks and, as the last thing each of them writes, rank-<r>.json.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from llmtrain_trainer.checkpoint.manifest import META, Meta, Name, RankPart, rank_file
from llmtrain_trainer.checkpoint.store.errors import BadCheckpointError


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """One save whose local ranks are all done."""

    name: Name
    directory: Path
    parts: tuple[RankPart, ...]

    @property
    def save_id(self) -> str:
        return self.parts[0].save_id

    @property
    def files(self) -> dict[str, int]:
        """Bytes by file name, over the local ranks."""
        return {path: size for part in self.parts for path, size in part.files.items()}

    def check(self) -> None:
        """Compare with the files on disk. Raises BadCheckpointError."""
        if len({part.save_id for part in self.parts}) > 1:
            raise BadCheckpointError(f"{self.name}: the ranks of this node wrote two different saves under one name")
        for path, size in self.files.items():
            found = (self.directory / path).stat().st_size if (self.directory / path).exists() else None
            if found != size:
                raise BadCheckpointError(
                    f"{self.name}: {path} has {found if found is not None else 'no'} bytes on disk, its rank wrote {size}"
                )

    def meta(self) -> Meta:
        """Rank 0's facts about the save. Raises BadCheckpointError."""
        try:
            return Meta.model_validate_json((self.directory / META).read_bytes())
        except (OSError, ValidationError) as error:
            raise BadCheckpointError(f"{self.name}: {META} cannot be read: {error}") from error


def names(staging: Path) -> list[Name]:
    """Everything staged, finished or not, oldest first."""
    if not staging.is_dir():
        return []
    return sorted(name for path in staging.iterdir() if (name := Name.parse(path.name)))


def finished(staging: Path, local_ranks: Sequence[int]) -> list[Staged]:
    """Saves whose local ranks have all written their marker, oldest first."""
    return [staged for name in names(staging) if (staged := _read(name, staging / str(name), local_ranks))]


def remove(staging: Path, name: Name) -> None:
    """Forget a save."""
    shutil.rmtree(staging / str(name), ignore_errors=True)


def _read(name: Name, directory: Path, local_ranks: Sequence[int]) -> Staged | None:
    try:
        markers = [(directory / rank_file(rank)).read_bytes() for rank in local_ranks]
    except FileNotFoundError:  # a rank is not done, or the save was removed while we looked
        return None
    return Staged(name=name, directory=directory, parts=tuple(RankPart.model_validate_json(marker) for marker in markers))
