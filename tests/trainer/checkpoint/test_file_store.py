"""A store in a directory: what is published is on the disk, drafts are nobody's objects, and errors say what to do."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmtrain_trainer.checkpoint.store import file_store
from llmtrain_trainer.checkpoint.store.errors import MissingError, StoreError, StoreFullError, StoreRefusedError, StoreUnreachableError
from llmtrain_trainer.checkpoint.store.file_store import FileStore

HOUR = 3600.0


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "store")


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Bytes of each file when it was synced, by name; -1 for a directory."""
    sizes: dict[str, int] = {}

    def fsync(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink()
        sizes[name.name] = -1 if name.is_dir() else os.fstat(descriptor).st_size

    monkeypatch.setattr(os, "fsync", fsync)
    return sizes


@pytest.mark.skipif(sys.platform != "linux", reason="/proc says which file is synced")
@pytest.mark.parametrize("size", [0, 1, 100, 8191, 8192, 8193, 100_000, file_store.BLOCK + 5], ids=str)
@pytest.mark.parametrize("way", ["put_bytes", "put_if_absent", "put_file"])
def test_every_byte_is_on_the_disk_before_the_name_is_there(
    store: FileStore, synced: dict[str, int], tmp_path: Path, way: str, size: int
) -> None:
    data = bytes(size)
    (tmp_path / "in").write_bytes(data)
    getattr(store, way)(*((tmp_path / "in", "d/key") if way == "put_file" else ("d/key", data)))
    drafts = [bytes_ for name, bytes_ in synced.items() if name.startswith(".key.")]
    assert drafts == [size], "a power cut after the rename must not leave a shorter file"
    assert synced["d"] == -1, "nor forget the name"


def test_drafts_are_not_listed_and_none_stays(store: FileStore) -> None:
    store.put_bytes("a/key", b"1")
    assert not store.put_if_absent("a/key", b"2")
    (store.local("a/.key.otherhost-1-1.part") or Path()).write_bytes(b"half")
    assert [(entry.key, entry.bytes) for entry in store.entries()] == [("a/key", 1)]
    assert sorted(path.name for path in (store.local("a") or Path()).iterdir()) == [".key.otherhost-1-1.part", "key"]


def test_a_hidden_file_that_is_no_draft_is_an_object(store: FileStore) -> None:
    for key in ("a/.metadata", "a/x.part", "b"):
        store.put_bytes(key, key.encode())
    assert [entry.key for entry in store.entries()] == ["a/.metadata", "a/x.part", "b"]


def test_a_prefix_is_a_text_and_with_a_slash_a_directory(store: FileStore) -> None:
    for key in ("step-1/a", "step-10/a", "other/step-1/a"):
        store.put_bytes(key, b"x")
    assert [entry.key for entry in store.entries("step-1/")] == ["step-1/a"]
    assert [entry.key for entry in store.entries("step-1")] == ["step-1/a", "step-10/a"]
    assert store.entries("absent/") == []


def test_a_directory_goes_with_its_last_object(store: FileStore) -> None:
    for key in ("a/1", "a/2"):
        store.put_bytes(key, b"x")
    store.delete(["a/1"])
    assert (store.local("a") or Path()).is_dir()
    store.delete(["a/2", "a/never", "b/never"])
    assert not (store.local("a") or Path()).exists() and (store.local("") or Path()).is_dir()


def draft(store: FileStore, host: str, pid: int, age: float) -> Path:
    path = store.local(f"step/.shard.{host}-{pid}-7.part") or Path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"half")
    os.utime(path, (time.time() - age,) * 2)
    return path


def ended_pid() -> int:
    """Of a process that has ended."""
    return int(subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True, text=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="only there it is known which processes have ended")
def test_drafts_of_the_dead_go_and_those_of_the_living_stay(store: FileStore) -> None:
    here, dead = file_store._HOST, ended_pid()
    gone = [draft(store, here, dead, 0), draft(store, "elsewhere", 1, 25 * HOUR), draft(store, here, os.getppid(), 25 * HOUR)]
    kept = [draft(store, here, os.getpid(), 60), draft(store, here, 1, 60), draft(store, "elsewhere", dead, 60)]
    assert store.abort_stale_uploads(24 * HOUR) == len(gone)
    assert [path.exists() for path in (*gone, *kept)] == [False] * 3 + [True] * 3
    assert store.abort_stale_uploads(24 * HOUR) == 0


def test_a_directory_with_nothing_but_a_stale_draft_is_empty(store: FileStore) -> None:
    store.put_bytes("step/shard", b"x")
    draft(store, "elsewhere", 1, 2 * HOUR)
    store.delete(["step/shard"])
    assert not (store.local("step") or Path()).exists()


def test_a_draft_that_may_be_written_to_keeps_its_directory(store: FileStore) -> None:
    store.put_bytes("step/shard", b"x")
    young = draft(store, "elsewhere", 1, 60)
    store.delete(["step/shard"])
    assert young.exists()


@pytest.mark.parametrize(
    ("number", "kind", "way_out"),
    [
        (errno.ENOSPC, StoreFullError, "Free space there; it is retried."),
        (errno.EDQUOT, StoreFullError, "Free space there; it is retried."),
        (errno.EACCES, StoreRefusedError, "Give the agent's user the right to read and write there"),
        (errno.ESTALE, StoreUnreachableError, "restore the mount; it is retried."),
        (errno.EIO, StoreUnreachableError, "restore the mount; it is retried."),
    ],
    ids=lambda value: errno.errorcode.get(value) if isinstance(value, int) else "",
)
def test_an_error_of_the_disk_says_whether_waiting_helps(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[StoreError], way_out: str
) -> None:
    def fsync(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(kind, match=f"^cannot write file://.*/store/a/key: {os.strerror(number)}") as raised:
        store.put_bytes("a/key", b"x")
    assert way_out in str(raised.value)
    assert list((store.local("a") or Path()).iterdir()) == [], "nothing half is left"


def test_what_is_not_there_is_missing_and_a_directory_is_no_object(store: FileStore, tmp_path: Path) -> None:
    for read in (store.get_bytes, lambda key: list(store.chunks(key, 1))):
        with pytest.raises(MissingError, match=r"cannot read file://.*/absent: No such file"):
            read("absent")
    store.put_bytes("a/key", b"x")
    with pytest.raises(StoreRefusedError, match="Is a directory"):
        store.get_bytes("a")
    with pytest.raises(StoreRefusedError, match=r"change checkpoint\.destination"):
        FileStore(tmp_path / "store" / "a" / "key").put_bytes("x", b"")


def test_an_error_of_ours_is_not_called_one_of_the_disk(store: FileStore) -> None:
    with pytest.raises(TypeError):
        store.put_bytes("a", "text")  # type: ignore[arg-type]
