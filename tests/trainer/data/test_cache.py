"""What is kept between runs is used only as it was made, and only where others cannot have put it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_job import Job, config_of

from llmtrain_trainer.data.cache import DONE, UntrustedCacheError, build_once, is_whole, make_own
from llmtrain_trainer.run_dir.notices import told


def build(draft: Path) -> None:
    (draft / "tokens.npy").write_bytes(b"right")


def test_other_bytes_of_the_same_size_and_time_are_not_used(tmp_path: Path) -> None:
    final, said = tmp_path / "rows" / "key", list[str]()
    path = build_once(final, build) / "tokens.npy"
    times = path.stat()
    path.write_bytes(b"wrong")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert not is_whole(final)
    assert (build_once(final, build, said.append) / "tokens.npy").read_bytes() == b"right"
    assert "is not as it was made" in said[0]


def test_a_copy_with_other_inodes_and_times_is_used_for_its_bytes(tmp_path: Path) -> None:
    final = build_once(tmp_path / "rows" / "key", build)
    (final / "copy").write_bytes(b"right")
    (final / "copy").replace(final / "tokens.npy")
    os.utime(final / "tokens.npy", (1, 1))
    assert is_whole(final)


@pytest.mark.parametrize("text", ["", "{}", '{"files": {"tokens.npy": 5}}', '{"files": []}', "\x00"])
def test_a_list_that_cannot_be_read_or_is_of_another_version_is_made_again(tmp_path: Path, text: str) -> None:
    final = build_once(tmp_path / "rows" / "key", build)
    (final / DONE).write_text(text)
    assert not is_whole(final)
    assert is_whole(build_once(final, build))


def test_a_damaged_cache_is_told_of_and_made_again(job: Job) -> None:
    config = config_of([{"source": job.text_file()}])
    first = job.prepare(config)
    tokens = next((job.cache / "rows").glob("*/train/tokens.npy"))
    content = bytearray(tokens.read_bytes())
    content[-1] ^= 1
    tokens.write_bytes(content)
    assert job.prepare(config).digest == first.digest
    assert any("in the cache is not as it was made" in sentence for sentence in told(job.run))


def by_another_version(file: Path, change: Callable[[Any], Any]) -> None:
    """Let another version have written a file of a finished directory."""
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    directory = next(parent for parent in file.parents if (parent / DONE).exists())
    whole = json.loads((directory / DONE).read_text())
    facts = file.stat()
    whole["files"][str(file.relative_to(directory))] = {
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "facts": [facts.st_size, facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns],
    }
    (directory / DONE).write_text(json.dumps(whole))
    assert is_whole(directory)


OTHERS: dict[str, tuple[str, dict[str, Any], Callable[[Any], Any]]] = {
    "rows of a later version": ("rows/*/train/set.json", {}, lambda stats: stats | {"invented": 1}),
    "rows of an earlier version": ("rows/*/validation/set.json", {}, lambda _: {"form": "stream", "rows": 3}),
    "notices of another version": ("rows/*/reading.json", {}, lambda _: 5),
    "a tokenizer of a later version": ("tokenizers/*/llmtrain.json", {}, lambda facts: facts | {"invented": 1}),
    "chunks of a later version": ("streams/*/*/set.json", {"streaming": True}, lambda stats: stats | {"invented": 1}),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_another_version_wrote_and_this_one_cannot_read_is_made_again_and_told(job: Job, kind: str) -> None:
    where, dataset, change = OTHERS[kind]
    config = config_of([{"source": job.text_file(), **dataset}])
    first = job.prepare(config)
    by_another_version(next(job.cache.glob(where)), change)
    (job.run.root / "notices.jsonl").unlink(missing_ok=True)
    assert job.prepare(config).digest == first.digest
    assert any("(damaged, or of another version) and is made again" in sentence for sentence in told(job.run))


def test_a_directory_that_everybody_writes_to_is_refused(job: Job) -> None:
    (job.cache / "tokenizers").mkdir(parents=True)
    (job.cache / "tokenizers").chmod(0o777)
    with pytest.raises(UntrustedCacheError, match=r"can be written by everybody \(mode 777\).* Remove it, or give a cache of your own"):
        job.prepare(config_of([{"source": job.text_file()}]))


def test_a_directory_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_own(tmp_path / "mine")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 4242)
    if os.getuid() == 0:
        os.chown(tmp_path / "mine", 77, 77)
    with pytest.raises(UntrustedCacheError, match="belongs to user"):
        make_own(tmp_path / "mine")


def test_a_wide_umask_makes_no_cache_that_is_refused_later(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_own(tmp_path / "cache" / "rows")
        make_own(tmp_path / "cache" / "rows")
    finally:
        os.umask(before)
