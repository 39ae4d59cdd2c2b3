"""What is kept between runs is used only as it was made, and only where others cannot have put it."""

from __future__ import annotations

import os
from pathlib import Path

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
