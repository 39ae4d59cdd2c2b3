"""Files behind a source: a file, directory, glob or hf:// repository."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import Any

from llmtrain_trainer.config.mounts import resolve
from llmtrain_trainer.data.bad_data import BadData, Unreachable
from llmtrain_trainer.data.blame import first_line, may_pass
from llmtrain_trainer.data.sources.files import DataFile, UnfitFileError
from llmtrain_trainer.data.sources.hub_files import hub_files
from llmtrain_trainer.data.sources.local_files import MARKS, in_words, is_specific, literal_start, local_files_of, shown

Told = Callable[[str], None]
"""Takes a sentence for whoever started the job."""


def untold(_: str) -> None:
    """For a caller whose files were told of elsewhere."""


def list_files(
    field: str,
    source: str,
    *,
    revision: str | None = None,
    repository: str = "model",
    patterns: Sequence[str] = (),
    told: Told = untold,
) -> list[DataFile]:
    """Regular files of a source in sorted order, hidden ones left out. `patterns` limits what is downloaded of an hf:// repository.

    Raises BadData where nothing is there, Unreachable where nobody answers.
    """
    if source.startswith("hf://"):
        return hub_files(field, source, revision, repository, patterns)
    passed: dict[str, str] = {}
    try:
        found = _files(resolve(source), passed)
    except (FileNotFoundError, NotADirectoryError):
        found = []
    except Exception as error:  # botocore and aiohttp raise many types for one thing: no answer
        raise _refusal(field, source, error) from error
    there = in_words([f"{name} ({why})" for name, why in passed.items()])
    if not found:
        way_out = "Check the path; a directory is read with everything below it, and globs such as *.jsonl work"
        raise BadData(field, source, f"there is no file{f' that can be read: {there}' if passed else ''}", way_out)
    if passed:
        told(f"{field}: {len(passed)} of what lies in {source} is passed over: {there}.")
    return found


def _refusal(field: str, source: str, error: Exception) -> BadData | Unreachable:
    if isinstance(error, UnfitFileError):
        return BadData(field, source, str(error), "Name a file, or a directory of files")
    if isinstance(error, PermissionError) or "credentials" in type(error).__name__.lower():
        return BadData(field, source, f"reading it is not allowed ({first_line(error)})", "Check the credentials and the permissions")
    if may_pass(error):
        return Unreachable(field, source, error)
    return BadData(field, source, f"it cannot be listed ({first_line(error)})", "Check how it is written: scheme, bucket and path")


def _files(uri: str, passed: dict[str, str]) -> list[DataFile]:
    scheme, _, path = uri.partition("://")
    if scheme == "file":
        local = local_files_of(path)
        passed.update(local.passed)
        return local.files
    return _store_files(uri, scheme)


def _store_files(uri: str, scheme: str) -> list[DataFile]:
    import fsspec

    fs, path = fsspec.core.url_to_fs(uri)
    fs.invalidate_cache()
    asked = True
    if fs.isfile(path):
        paths, root = [path], path.rpartition("/")[0]
    elif any(mark in path for mark in MARKS) and not fs.isdir(path):
        root, pattern = literal_start(path, fs.isdir)
        paths, asked = _globbed(fs, root, pattern), is_specific(pattern)
    else:
        paths, root, asked = fs.find(path), path.rstrip("/"), False
    named = [(p, p[len(root) :].lstrip("/")) for p in sorted(set(paths))]
    return [_store_file(fs, scheme, p, name, asked) for p, name in named if not _hidden(name) and not p.endswith("/")]


def _globbed(fs: Any, root: str, pattern: str) -> list[str]:
    escaped = "".join(f"[{c}]" if c in MARKS else c for c in root)
    found: list[str] = []
    for match in fs.glob(f"{escaped}/{pattern}"):
        found += [match] if fs.isfile(match) else fs.find(match)
    return found


def _store_file(fs: Any, scheme: str, path: str, name: str, asked: bool) -> DataFile:
    info = fs.info(path)
    version = next((info[key] for key in ("ETag", "etag", "md5Hash", "generation", "mtime", "LastModified") if info.get(key)), "")
    size = int(info["size"] or 0)
    return DataFile(
        uri=f"{scheme}://{shown(path)}",
        name=shown(name),
        identity=(path, str(size), str(version)),
        size=size,
        asked=asked,
        remote=f"{scheme}://{path}",
    )


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(name).parts)
