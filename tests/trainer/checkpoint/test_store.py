"""Both stores keep the same promises; what differs (multipart, retries, messages) has its own tests below."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest
from fault_proxy import FaultProxy
from s3_server import S3Server

from llmtrain_trainer.checkpoint.store import retry
from llmtrain_trainer.checkpoint.store.destination import open_store
from llmtrain_trainer.checkpoint.store.errors import BadCheckpointError, MissingError, StoreRefusedError, StoreUnreachableError
from llmtrain_trainer.checkpoint.store.retry import Backoff, persist
from llmtrain_trainer.checkpoint.store.s3_store import S3Store
from llmtrain_trainer.checkpoint.store.store import Digest, Store, delete_prefix, verify_object

QUICK = Backoff(first=0.01, longest=0.05, deadline=60.0)
HASTY = Backoff(first=0.01, longest=0.05, deadline=0.2)
PART = 5 << 20  # the smallest that S3 accepts


def test_a_file_comes_back_as_it_was_with_its_digest(store: Store, tmp_path: Path) -> None:
    data = bytes(range(256)) * 80_000  # more than one read of either store
    (tmp_path / "in").write_bytes(data)
    digest = store.put_file(tmp_path / "in", "deep/er/key")
    assert digest == Digest(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    verify_object(store, "deep/er/key", digest, into=tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data


def test_an_empty_file_is_kept_too(store: Store, tmp_path: Path) -> None:
    (tmp_path / "in").touch()
    digest = store.put_file(tmp_path / "in", "empty")
    verify_object(store, "empty", digest, into=tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b""


@pytest.mark.parametrize(
    "stored, clause", [(b"abcdefgX", "has sha256"), (b"abc", "has 3 bytes"), (b"", "has 0 bytes")], ids=["flipped", "short", "empty"]
)
def test_an_object_that_differs_from_its_digest_is_not_fetched(store: Store, tmp_path: Path, stored: bytes, clause: str) -> None:
    store.put_bytes("key", stored)
    expected = Digest(bytes=8, sha256=hashlib.sha256(b"abcdefgh").hexdigest())
    with pytest.raises((BadCheckpointError, MissingError), match=clause if stored else "key"):
        verify_object(store, "key", expected, into=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_object_is_put_only_where_none_is(store: Store) -> None:
    assert store.put_if_absent("a/COMMIT", b"first")
    assert not store.put_if_absent("a/COMMIT", b"second")
    assert store.put_if_absent("a/COMMIT", b"first"), "its own content counts as put: an answer may have been lost"
    assert store.get_bytes("a/COMMIT") == b"first"


def test_of_many_writers_exactly_one_puts_an_object(store: Store) -> None:
    outcomes, ready = dict[int, bool](), threading.Barrier(8)

    def write(number: int) -> None:
        ready.wait()
        outcomes[number] = store.put_if_absent("COMMIT", f"writer {number}".encode())

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [number for number, won in outcomes.items() if won]
    assert len(winners) == 1
    assert store.get_bytes("COMMIT") == f"writer {winners[0]}".encode()


def test_a_listing_shows_what_is_below_a_prefix_and_nothing_else(store: Store) -> None:
    for key in ("one/a", "one/b", "one-more/c"):
        store.put_bytes(key, b"xy")
    assert [(entry.key, entry.bytes) for entry in store.entries("one/")] == [("one/a", 2), ("one/b", 2)]
    assert [entry.key for entry in store.entries()] == ["one-more/c", "one/a", "one/b"]


def test_a_prefix_is_deleted_and_its_neighbours_stay(store: Store) -> None:
    for key in ("one/COMMIT", "one/b", "one-more/c"):
        store.put_bytes(key, b"x")
    delete_prefix(store, "one/", first="one/COMMIT")
    assert [entry.key for entry in store.entries()] == ["one-more/c"]


def test_what_is_not_there_is_missing(store: Store) -> None:
    with pytest.raises(MissingError):
        store.get_bytes("nothing")
    store.delete(["nothing"])


def test_an_address_of_another_kind_is_refused_with_the_ones_that_work() -> None:
    with pytest.raises(StoreRefusedError, match="s3://bucket/prefix, file:///absolute/path or pvc://claim/path"):
        open_store("gs://bucket/prefix")


def test_drafts_of_a_killed_writer_are_not_listed_and_are_swept(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}")
    (tmp_path / ".shard.99-1.part").write_bytes(b"half")
    assert store.entries() == []
    assert store.abort_stale_uploads(older_than=3600) == 0
    assert store.abort_stale_uploads(older_than=-1) == 1


def test_a_directory_without_rights_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where the directory should be")
    with pytest.raises(StoreRefusedError, match=r"taken.*right to read and write"):
        open_store(f"file://{tmp_path}/taken/below").get_bytes("key")


def test_waiting_ends_at_the_deadline_and_not_before_a_permanent_error(monkeypatch: pytest.MonkeyPatch) -> None:
    tries, now = [], [0.0]
    monkeypatch.setattr(retry.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(retry.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))

    def fail() -> None:
        tries.append(1)
        raise OSError

    with pytest.raises(OSError):
        persist(fail, lambda _: True, Backoff(first=0.001, longest=0.01, deadline=0.1))
    assert len(tries) > 3 and now[0] <= 0.1
    tries.clear()
    with pytest.raises(OSError):
        persist(fail, lambda _: False, QUICK)
    assert len(tries) == 1


@pytest.mark.processes
class TestS3:
    @pytest.fixture
    def bucket(self, s3: S3Server) -> str:
        return s3.new_bucket()

    @pytest.fixture
    def strict(self, s3: S3Server) -> None:
        if s3.kind == "moto":
            pytest.skip("moto's server knows no keys and no time of an upload; this needs versitygw, which is built where Go is present")

    @pytest.fixture
    def big(self, tmp_path: Path) -> Path:
        path = tmp_path / "big"
        path.write_bytes(bytes(range(256)) * (3 * PART // 256) + b"a last, short part")
        return path

    def test_a_large_file_goes_up_in_parts(self, bucket: str, s3: S3Server, big: Path) -> None:
        digest = S3Store(bucket, "p", QUICK, part=PART).put_file(big, "big")
        assert digest.sha256 == hashlib.sha256(big.read_bytes()).hexdigest()
        assert s3.client().head_object(Bucket=bucket, Key="p/big")["ETag"].endswith('-4"')
        verify_object(S3Store(bucket, "p", QUICK), "big", digest)

    def test_a_store_that_is_busy_for_a_while_is_waited_for(self, bucket: str, proxy: FaultProxy, big: Path) -> None:
        proxy.busy_for = 6
        store = S3Store(bucket, "p", QUICK, part=PART)
        verify_object(store, "big", store.put_file(big, "big"))
        assert proxy.answered_busy == 6

    def test_a_connection_cut_in_the_middle_of_a_part_is_made_again(self, bucket: str, proxy: FaultProxy, big: Path) -> None:
        proxy.cut_uploads = 2
        store = S3Store(bucket, "p", QUICK, part=PART)
        verify_object(store, "big", store.put_file(big, "big"))
        assert proxy.cut_uploads == 0

    def test_an_upload_that_fails_leaves_no_object_and_no_parts(self, bucket: str, s3: S3Server, proxy: FaultProxy, big: Path) -> None:
        proxy.cut_uploads = 1000
        with pytest.raises(StoreUnreachableError, match=f"upload_part of s3://{bucket}/p/big failed"):
            S3Store(bucket, "p", HASTY, part=PART).put_file(big, "big")
        assert "Contents" not in s3.client().list_objects_v2(Bucket=bucket)
        assert not s3.client().list_multipart_uploads(Bucket=bucket).get("Uploads")

    def test_lost_answers_do_not_turn_a_done_commit_into_a_failed_one(self, bucket: str, proxy: FaultProxy) -> None:
        proxy.lose_answers = 1
        assert S3Store(bucket, "p", QUICK).put_if_absent("COMMIT", b"mine")

    def test_a_lost_answer_to_the_last_call_of_an_upload_is_understood(self, bucket: str, proxy: FaultProxy, big: Path) -> None:
        store = S3Store(bucket, "p", QUICK, part=PART)
        upload = store._call("create_multipart_upload", "big", ChecksumAlgorithm="CRC32")["UploadId"]
        digest, parts = store._send(big, "big", upload, PART)
        proxy.lose_answers = 1
        store._complete("big", upload, parts, digest.bytes)
        verify_object(store, "big", digest)

    @pytest.mark.usefixtures("strict")
    def test_stale_uploads_are_aborted_and_fresh_ones_left(self, bucket: str, s3: S3Server) -> None:
        s3.client().create_multipart_upload(Bucket=bucket, Key="p/torn")
        store = S3Store(bucket, "p", QUICK)
        assert store.abort_stale_uploads(older_than=3600) == 0
        assert store.abort_stale_uploads(older_than=-3600) == 1
        assert not s3.client().list_multipart_uploads(Bucket=bucket).get("Uploads")

    def test_nobody_listening_is_unreachable_after_the_deadline(self, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        with pytest.raises(StoreUnreachableError, match=r"get_object of s3://.*/key failed: EndpointConnectionError, still after 0.2 s"):
            S3Store(bucket, "p", HASTY).get_bytes("key")

    @pytest.mark.usefixtures("strict")
    def test_wrong_keys_are_refused_with_the_way_out(self, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-guess")
        with pytest.raises(StoreRefusedError, match=r"put_object of s3://.*/p/key failed: .*Check AWS_ACCESS_KEY_ID"):
            S3Store(bucket, "p", QUICK).put_bytes("key", b"x")

    @pytest.mark.usefixtures("s3")
    def test_a_bucket_that_is_not_there_is_refused_with_the_way_out(self) -> None:
        with pytest.raises(StoreRefusedError, match=r"NoSuchBucket. Create the bucket"):
            S3Store("no-such-bucket", "p", QUICK).put_bytes("key", b"x")

    @pytest.mark.usefixtures("strict")
    def test_keys_that_were_rotated_in_their_file_are_read_again(
        self, bucket: str, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        good = s3.environment()
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        file = tmp_path / "credentials"
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
        text = "[default]\naws_access_key_id={}\naws_secret_access_key={}\n"
        file.write_text(text.format(good["AWS_ACCESS_KEY_ID"], good["AWS_SECRET_ACCESS_KEY"]))
        store = S3Store(bucket, "p", QUICK)
        store._client()._request_signer._credentials.secret_key = "an-old-secret"
        store.put_bytes("key", b"x")
        assert store.get_bytes("key") == b"x"

    def test_more_objects_than_a_page_are_all_listed(self, bucket: str) -> None:
        store = S3Store(bucket, "p", QUICK)
        for number in range(7):
            store.put_bytes(f"k{number}", b"")
        call = store._call
        store._call = lambda operation, key, **more: call(operation, key, **more, **({"MaxKeys": 3} if "list" in operation else {}))  # type: ignore[method-assign]
        assert len(store.entries()) == 7
