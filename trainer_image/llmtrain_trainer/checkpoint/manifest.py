"""The files beside the shards, as frozen types, and the names of checkpoints. Pure.

Readers ignore fields they do not know, so that a checkpoint of a newer version can still be told from a broken one; a manifest of
an unknown `version` is refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from llmtrain_trainer.checkpoint.signature import objection, sign
from llmtrain_trainer.checkpoint.store.errors import BadCheckpointError
from llmtrain_trainer.config import Strict
from llmtrain_trainer.config.tables.engines import DEFAULT_ENGINE
from llmtrain_trainer.data.mixing.course import Course

BEGIN, MANIFEST, COMMIT = "begin.json", "manifest.json", "COMMIT"
META = "meta.json"
"""In staging only: rank 0's facts about the save. They become part of the manifest."""

METADATA = ".metadata"
"""DCP's own index of tensors, written by rank 0 after all shards."""

NAME = re.compile(r"step-([0-9]{8,12})-a(0|[1-9][0-9]{0,6})-r(0|[1-9][0-9]{0,8})")

_MOST_ATTEMPTS = 1_000_000
"""The highest attempt that a verdict can name. A higher number in the store is ignored: it would fence the job for ever."""


@dataclass(frozen=True, slots=True, order=True)
class Name:
    """step-00000200-a0-r1. Ordered by age: a later attempt or round is newer, even if it resumed from an earlier step."""

    attempt: int
    round: int
    step: int

    @classmethod
    def parse(cls, text: str) -> Name | None:
        """The name; None if the text is not the name of a checkpoint."""
        match = NAME.fullmatch(text)
        if not match:
            return None
        step, attempt, round_ = (int(group) for group in match.groups())
        return cls(attempt, round_, step) if attempt <= _MOST_ATTEMPTS else None

    def __str__(self) -> str:
        return f"step-{self.step:08d}-a{self.attempt}-r{self.round}"


class Written(Strict):
    """A Strict that later versions may have added fields to."""

    model_config = ConfigDict(extra="ignore")


class CheckpointFile(Written):
    """One file of a checkpoint."""

    path: Annotated[str, Field(pattern=r"^\.?[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
    """A bare file name: a manifest cannot point outside its directory."""

    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    node: int
    """Node whose ranks wrote it."""


class RankPart(Written):
    """staging/<name>/rank-<r>.json: this rank's files are complete on the disk of its node."""

    rank: int
    world_size: int
    save_id: str
    """Drawn once per save and equal on all ranks, so that parts of two saves under one name are never joined."""

    files: dict[str, int]
    """Bytes by file name."""

    seconds: float = 0.0
    """How long the ranks took to save in the background."""


class Begin(Written):
    """begin.json: node 0 uploads this save; the other nodes follow."""

    save_id: str
    nodes: int


class NodePart(Written):
    """node-<i>.json: all files of a node are in the store."""

    node: int
    ranks: tuple[int, ...]
    world_size: int
    save_id: str
    files: tuple[CheckpointFile, ...]


class Meta(Strict):
    """The training loop's facts about a save. Engines add their own."""

    model_config = ConfigDict(extra="allow")

    step: int
    consumed_samples: int = 0
    consumed_tokens: int | None = None
    target_steps: int | None = None
    attempt: int = 0
    round: int = 0
    seed: int | None = None
    mesh: dict[str, Any] = {}
    """The layout that wrote it."""

    engine: str = DEFAULT_ENGINE
    """What trained it."""

    format: str = "dcp"
    """Format of its files: dcp, or an engine's own; engines/own_format.py decides which engine reads it itself."""

    config_hash: str | None = None
    tokenizer_hash: str | None = None
    record: dict[str, Any] | None = None
    """Facts that a run that resumes is compared with (resume/continuation.py). None: an earlier version wrote it."""

    course: Course | None = None
    """The order of samples at the time of the save."""

    ends: tuple[int, ...] = ()
    """Tokens at which documents and answers ended in training."""

    diverged: bool = False
    """Whether the loss was far above its lowest value at the time of the save."""


class Manifest(Written):
    """manifest.json: everything that belongs to the checkpoint."""

    version: Literal[1] = 1
    name: str
    save_id: str
    created: float
    """Seconds since the epoch, by node 0's clock; shown, never compared."""

    meta: Meta
    files: Annotated[tuple[CheckpointFile, ...], Field(min_length=1)]

    @property
    def bytes(self) -> int:
        """Total bytes of its files."""
        return sum(file.bytes for file in self.files)


class Commit(Written):
    """COMMIT: with it the checkpoint exists."""

    version: Literal[1] = 1
    name: str
    manifest_sha256: str
    committed_at: float
    signature: str | None = None
    """Signature of the manifest, if the job has a key; see signature.py."""


def node_file(node: int) -> str:
    """Name of a node's part."""
    return f"node-{node}.json"


def rank_file(rank: int) -> str:
    """Name of a rank's marker in staging."""
    return f"rank-{rank}.json"


def encode(value: Strict) -> bytes:
    """JSON as it is stored."""
    return value.model_dump_json(by_alias=True, indent=1).encode() + b"\n"


def join(name: Name, meta: Meta, parts: Iterable[NodePart], created: float) -> Manifest:
    """Make the manifest of all nodes' parts. Raises BadCheckpointError when a rank's part is missing or a file is there twice."""
    parts = sorted(parts, key=lambda part: part.node)
    files = sorted((file for part in parts for file in part.files), key=lambda file: file.path)
    paths = [file.path for file in files]
    missing = set(range(parts[0].world_size)) - {rank for part in parts for rank in part.ranks}
    if missing:
        raise BadCheckpointError(f"{name} lacks the shards of ranks {', '.join(map(str, sorted(missing)))}")
    if len(set(paths)) != len(paths):
        raise BadCheckpointError(f"{name} has a file that two nodes wrote: {next(path for path in paths if paths.count(path) > 1)}")
    if meta.format == "dcp" and METADATA not in paths:
        raise BadCheckpointError(f"{name} lacks {METADATA}, which rank 0 writes")
    return Manifest(name=str(name), save_id=parts[0].save_id, created=created, meta=meta, files=tuple(files))


def commit_of(manifest: Manifest, data: bytes, now: float) -> Commit:
    """The COMMIT for these bytes of a manifest."""
    return Commit(name=manifest.name, manifest_sha256=hashlib.sha256(data).hexdigest(), committed_at=now, signature=sign(data))


def diverged(manifest: bytes) -> bool:
    """Whether a stored manifest says that training diverged; True if it cannot be read."""
    try:
        return Manifest.model_validate_json(manifest).meta.diverged
    except ValidationError:
        return True


def read_manifest(name: str, commit: bytes, manifest: bytes) -> Manifest:
    """Check COMMIT against the manifest and both against the name. Raises BadCheckpointError."""
    try:
        sealed, read = Commit.model_validate_json(commit), Manifest.model_validate_json(manifest)
    except ValidationError as error:
        raise BadCheckpointError(f"{name} has a {MANIFEST} or {COMMIT} that cannot be read: {error.errors()[0]['msg']}") from error
    if sealed.manifest_sha256 != hashlib.sha256(manifest).hexdigest():
        raise BadCheckpointError(f"{name} has a {MANIFEST} that is not the one {COMMIT} sealed")
    if (why := objection(manifest, sealed.signature)) is not None:
        raise BadCheckpointError(f"{name} {why}: somebody else wrote it, or it is older than the key")
    if read.name != name or sealed.name != name:
        raise BadCheckpointError(f"{name} holds the manifest of {read.name}")
    return read
