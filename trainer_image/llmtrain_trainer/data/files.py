"""Files behind a source: a file, directory, glob or hf:// repository. Called by sources and model files."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from llmtrain_trainer.data.bad_data import BadData, Unreachable
from llmtrain_trainer.mounts import resolve


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file and what tells it from another content under the same name."""

    uri: str
    """As a person would write it: scheme and full path."""

    name: str
    """Path below the source, with its ending."""

    identity: tuple[str, ...]
    """Changes when the content may have: path, size and modification time, ETag, or commit."""

    local: Path | None = None
    """Where it lies on this machine, if it does."""

    @property
    def kind(self) -> str:
        """Its ending without the compression's: jsonl for a.jsonl.gz."""
        suffixes = [suffix.lstrip(".").lower() for suffix in PurePosixPath(self.name).suffixes]
        while suffixes and suffixes[-1] in ("gz", "zst"):
            suffixes.pop()
        return suffixes[-1] if suffixes else ""

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Its bytes, decompressed."""
        fs, path = _filesystem(self.uri)
        with self.local.open("rb") if self.local else fs.open(path, "rb") as raw:
            if self.name.endswith(".gz"):
                with gzip.open(raw) as plain:
                    yield cast(IO[bytes], plain)
            elif self.name.endswith(".zst"):
                import pyarrow

                yield pyarrow.CompressedInputStream(raw, "zstd")
            else:
                yield raw


def list_files(
    field: str, source: str, *, revision: str | None = None, repository: str = "model", patterns: Sequence[str] = ()
) -> list[File]:
    """Files of a source in sorted order, hidden ones left out. `patterns` limits what is downloaded of an hf:// repository.

    Raises BadData where nothing is there, Unreachable where nobody answers.
    """
    if source.startswith("hf://"):
        return _hub_files(field, source, revision, repository, patterns)
    uri = resolve(source)
    try:
        found = _store_files(uri)
    except (FileNotFoundError, NotADirectoryError):
        found = []
    except PermissionError as error:
        raise BadData(field, source, f"reading it is not allowed ({error})", "Check the credentials and the permissions") from error
    except Exception as error:  # botocore and aiohttp raise many types for one thing: no answer
        raise Unreachable(field, source, error) from error
    if not found:
        raise BadData(
            field,
            source,
            "there is no file",
            "Check the path; a directory is read with everything below it, and globs such as *.jsonl work",
        )
    return found


def _filesystem(uri: str) -> tuple[Any, str]:
    import fsspec

    fs, path = fsspec.core.url_to_fs(uri)
    return fs, path


def _store_files(uri: str) -> list[File]:
    fs, path = _filesystem(uri)
    fs.invalidate_cache()
    if fs.isfile(path):
        paths, root = [path], path.rpartition("/")[0]
    elif any(mark in path for mark in "*?["):
        paths, root = [p for p in fs.glob(path) if fs.isfile(p)], path.split("*")[0].split("?")[0].split("[")[0].rpartition("/")[0]
    else:
        paths, root = fs.find(path), path.rstrip("/")
    scheme = uri.partition("://")[0]
    return [_store_file(fs, scheme, p, p[len(root) :].lstrip("/")) for p in sorted(paths) if not _hidden(p[len(root) :])]


def _store_file(fs: Any, scheme: str, path: str, name: str) -> File:
    info = fs.info(path)
    version = info.get("ETag") or info.get("mtime") or info.get("LastModified") or ""
    local = Path(path) if scheme == "file" else None
    return File(uri=f"{scheme}://{path}", name=name, identity=(path, str(info["size"]), str(version)), local=local)


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(name).parts)


def _hub_files(field: str, source: str, revision: str | None, repository: str, patterns: Sequence[str]) -> list[File]:
    """Downloads what matches into the hub's own cache (HF_HOME), from HF_ENDPOINT where set."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    name, inside = split_hub(source)
    wanted = [f"{inside}*" if inside.endswith("/") else inside, f"{inside}/*"] if inside else list(patterns) or None
    try:
        root = Path(snapshot_download(name, repo_type=repository, revision=revision, allow_patterns=wanted))
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        way_out = "Check owner, name and revision; a private one needs HF_TOKEN"
        raise BadData(field, source, f"the hub has no such {repository} at revision {revision or 'main'}", way_out) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise Unreachable(field, source, error) from error
    # The snapshot's directory is named by its commit, so the identity pins the content.
    paths = sorted(
        p for p in root.rglob("*") if p.is_file() and not _hidden(str(p.relative_to(root))) and _matches(p.relative_to(root), wanted)
    )
    if not paths:
        raise BadData(field, source, "the repository has no such file", "Check the path after owner/name")
    return [
        File(
            uri=f"hf://{name}/{p.relative_to(root)}",
            name=str(p.relative_to(root)),
            identity=(name, root.name, str(p.relative_to(root))),
            local=p,
        )
        for p in paths
    ]


def _matches(path: Path, patterns: list[str] | None) -> bool:
    from fnmatch import fnmatch

    return patterns is None or any(fnmatch(str(path), pattern) for pattern in patterns)


def split_hub(source: str) -> tuple[str, str]:
    """hf://owner/name/some/path -> ("owner/name", "some/path")."""
    parts = source.removeprefix("hf://").split("/", 2)
    return "/".join(parts[:2]), parts[2] if len(parts) > 2 else ""
