"""A store, or what answers in its place, that is wrong for a while costs no checkpoint; for good, it is told from an empty one."""

from __future__ import annotations

import shutil
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from answering import answering
from gang import Gang

from llmtrain_trainer.checkpoint.newest import NEWEST
from llmtrain_trainer.checkpoint.restore import choose, obtain
from llmtrain_trainer.checkpoint.store.destination import DOUBT, open_store
from llmtrain_trainer.checkpoint.store.errors import CheckpointsGoneError, NoneVerifiesError, StoreRefusedError, StoreUnreachableError
from llmtrain_trainer.checkpoint.store.file_store import FileStore
from llmtrain_trainer.checkpoint.store.retry import Backoff

pytestmark = pytest.mark.long

FIRST, SECOND = "step-00000010-a0-r0", "step-00000020-a0-r0"


class Liar:
    """Serves a directory as a bucket; `lie` says how the first `lies` answers that it bears on are wrong."""

    def __init__(self, root: Path) -> None:
        self.root, self.lie, self.lies = root, "", 0
        self.ignores_prefixes = False
        self.lock = threading.Lock()

    def lies_now(self, *kinds: str) -> bool:
        with self.lock:
            if self.lie not in kinds or self.lies <= 0:
                return False
            self.lies -= 1
            return True

    def listing(self, prefix: str, token: str) -> bytes:
        if self.lies_now("html listing"):
            return b"<html><body>Please log in"
        if self.lies_now("no listing"):
            return b""
        paths = sorted(path for path in self.root.rglob("*") if path.is_file())
        if self.lies_now("empty listing"):
            paths = []
        if self.lies_now("listing of the root alone"):
            paths = [path for path in paths if path.parent == self.root]
        if self.lies_now("listing without COMMIT"):
            paths = [path for path in paths if not (path.name == "COMMIT" and SECOND in str(path))]
        rows = "".join(
            f"<Contents><Key>{key}</Key><Size>{path.stat().st_size}</Size></Contents>"
            for path in paths
            if (key := f"ck/{path.relative_to(self.root)}").startswith(prefix) or self.ignores_prefixes
        )
        if self.lies_now("foreign keys"):
            rows = "<Contents><Key>other/job/COMMIT</Key><Size>3</Size></Contents>"
        more = "<IsTruncated>false</IsTruncated>"
        if self.lies_now("same page for ever"):
            more = "<IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>"
        if self.lies_now("pages without end"):
            rows, more = "", f"<IsTruncated>true</IsTruncated><NextContinuationToken>{int(token or 0) + 1}</NextContinuationToken>"
        if self.lies_now("more, and not where"):
            more = "<IsTruncated>true</IsTruncated>"
        return f'<?xml version="1.0"?><ListBucketResult>{more}{rows}</ListBucketResult>'.encode()

    def content(self, path: Path) -> tuple[int, bytes]:
        data = path.read_bytes()
        newest_shard = path.suffix == ".distcp" and SECOND in str(path)
        if newest_shard and self.lies_now("wrong byte"):
            return 206, bytes([data[0] ^ 1]) + data[1:]
        if newest_shard and self.lies_now("html content"):
            return 200, b"<html>proxy login</html>"
        if newest_shard and self.lies_now("too long"):
            return 206, data + b"x" * 1000
        if newest_shard and self.lies_now("not there"):
            return 404, b"<Error><Code>NoSuchKey</Code></Error>"
        if newest_shard and self.lies_now("403"):
            return 403, b"<Error><Code>AccessDenied</Code></Error>"
        if path.name == "manifest.json" and SECOND in str(path) and self.lies_now("another manifest"):
            return 206, b"{}"
        return 206, data


def handler(liar: Liar) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None: ...

        def do_GET(self) -> None:
            where = urllib.parse.urlsplit(self.path)
            query = urllib.parse.parse_qs(where.query)
            if "list-type" in query:
                self.out(200, liar.listing(query.get("prefix", [""])[0], query.get("continuation-token", [""])[0]))
                return
            path = liar.root / where.path.removeprefix("/b/ck/")
            self.out(*(liar.content(path) if path.exists() else (404, b"<Error><Code>NoSuchKey</Code></Error>")))

        def out(self, code: int, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


@pytest.fixture
def liar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Liar]:
    root = tmp_path / "truth"
    gang = Gang(tmp_path, FileStore(root))
    gang.save(FIRST)
    gang.save(SECOND)
    liar = Liar(root)
    with answering(handler(liar), monkeypatch):
        yield liar


def chosen(tmp_path: Path, doubt: float, events: list[dict[str, Any]], resume: Any = "latest") -> str | None:
    store = open_store("s3://b/ck", Backoff(first=0.01, longest=0.02, deadline=max(1.0, doubt), doubt=doubt))
    found = choose(store, resume, events.append, into=tmp_path / "restore")
    return str(found.name) if found else None


@pytest.mark.parametrize("odd", ["soon", "-1", "1e9", "٣", "9" * 400])
def test_a_time_of_doubt_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch, odd: str) -> None:
    monkeypatch.setenv(DOUBT, odd)
    with pytest.raises(StoreRefusedError, match=f"{DOUBT} is .* whole number of seconds"):
        open_store("s3://b/ck")


def test_a_time_of_doubt_may_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_store("s3://b/ck").patience == 90.0
    monkeypatch.setenv(DOUBT, "7")
    assert open_store("s3://b/ck").patience == 7.0


FOR_A_WHILE = [
    "html listing", "no listing", "listing without COMMIT", "wrong byte", "html content", "too long", "not there", "another manifest",
]  # fmt: skip


@pytest.mark.parametrize("lie", FOR_A_WHILE)
def test_a_store_that_is_wrong_for_a_while_costs_no_checkpoint(liar: Liar, tmp_path: Path, lie: str) -> None:
    liar.lie, liar.lies = lie, 3 if lie != "listing without COMMIT" else 1
    assert chosen(tmp_path, 5.0, events := []) == SECOND
    assert not [event for event in events if event["kind"] == "checkpoint_rejected"]
    assert not list((tmp_path / "restore").rglob("*.part"))


@pytest.mark.parametrize("lie", ["wrong byte", "html content", "too long", "not there", "another manifest"])
def test_what_is_wrong_for_good_is_passed_over_after_the_doubt(liar: Liar, tmp_path: Path, lie: str) -> None:
    liar.lie, liar.lies = lie, 10**9
    assert chosen(tmp_path, 0.1, events := []) == FIRST
    assert [event["kind"] for event in events] == ["checkpoint_doubted", "checkpoint_rejected"]
    assert not list((tmp_path / "restore").rglob("*.part"))


@pytest.mark.parametrize(
    "lie", ["same page for ever", "pages without end", "more, and not where", "foreign keys", "html listing", "no listing"]
)
def test_a_listing_that_does_not_end_or_is_none_is_an_error_and_no_empty_store(liar: Liar, tmp_path: Path, lie: str) -> None:
    liar.lie, liar.lies = lie, 10**9
    with pytest.raises(StoreUnreachableError, match="list_objects_v2 of s3://b/ck/"):
        chosen(tmp_path, 0.1, [])


def test_an_empty_listing_of_a_place_with_a_newest_checkpoint_is_not_believed(liar: Liar, tmp_path: Path) -> None:
    liar.lie, liar.lies = "empty listing", 2
    assert chosen(tmp_path, 5.0, events := []) == SECOND
    assert {event["kind"] for event in events} == {"checkpoint_doubted"}
    liar.lies = 10**9
    with pytest.raises(StoreUnreachableError, match=f"lists no committed checkpoint, but {SECOND}/COMMIT can be read there"):
        chosen(tmp_path, 0.1, [])


def test_a_listing_with_nothing_but_the_owner_is_not_believed_either(liar: Liar, tmp_path: Path) -> None:
    (liar.root / "owner.json").write_text("{}")
    liar.lie, liar.lies = "listing of the root alone", 10**9
    with pytest.raises(StoreUnreachableError, match="its listing is not to be believed"):
        chosen(tmp_path, 0.1, [])


@pytest.mark.parametrize("resume", ["latest", 20])
def test_checkpoints_that_somebody_deleted_end_the_run_with_two_ways_out(liar: Liar, tmp_path: Path, resume: Any) -> None:
    for name in (FIRST, SECOND):
        shutil.rmtree(liar.root / name)
    with pytest.raises(CheckpointsGoneError, match=f"newest.json says that {SECOND} was committed there, but neither it nor another"):
        chosen(tmp_path, 0.1, [], resume)
    assert chosen(tmp_path, 0.1, [], "none") is None
    (liar.root / NEWEST).unlink()
    assert chosen(tmp_path, 60.0, events := []) is None and events == []


def test_a_checkpoint_that_is_left_is_taken_although_the_newest_is_gone(liar: Liar, tmp_path: Path) -> None:
    shutil.rmtree(liar.root / SECOND)
    assert chosen(tmp_path, 0.1, events := []) == FIRST and events == []


@pytest.mark.parametrize("content", [b"", b"{}", b"[1", b'{"name": "step-x"}', b"\xff", b'{"name": "../../etc"}'])
def test_a_record_that_names_no_checkpoint_does_not_count(liar: Liar, tmp_path: Path, content: bytes) -> None:
    shutil.rmtree(liar.root)
    liar.root.mkdir()
    (liar.root / NEWEST).write_bytes(content)
    assert chosen(tmp_path, 60.0, events := []) is None and events == []


def test_a_place_that_is_empty_begins_at_step_0_without_doubt(liar: Liar, tmp_path: Path) -> None:
    shutil.rmtree(liar.root)
    liar.root.mkdir()
    assert chosen(tmp_path, 60.0, events := []) is None and events == []
    (liar.root / "owner.json").write_text("{}")
    assert chosen(tmp_path, 60.0, events) is None and events == []


def test_a_server_that_lists_more_than_it_is_asked_for_is_understood(liar: Liar, tmp_path: Path) -> None:
    liar.ignores_prefixes, liar.lie, liar.lies = True, "wrong byte", 2
    assert chosen(tmp_path, 5.0, []) == SECOND


def test_a_refusal_is_an_error_and_no_bad_checkpoint(liar: Liar, tmp_path: Path) -> None:
    liar.lie, liar.lies = "403", 10**9
    with pytest.raises(StoreRefusedError, match="AccessDenied"):
        chosen(tmp_path, 0.1, [])


def test_when_none_is_good_for_good_it_says_so(liar: Liar, tmp_path: Path) -> None:
    for path in liar.root.rglob("__0_0.distcp"):
        path.write_bytes(b"x" * 1000)
    with pytest.raises(NoneVerifiesError, match="none verifies"):
        chosen(tmp_path, 0.1, [])


def test_a_node_that_fetches_what_another_chose_doubts_as_well(liar: Liar, tmp_path: Path) -> None:
    liar.lie, liar.lies = "empty listing", 2
    store = open_store("s3://b/ck", Backoff(first=0.01, longest=0.02, deadline=5.0, doubt=5.0))
    events: list[dict[str, Any]] = []
    found, directory = obtain(store, SECOND, tmp_path / "restore", events.append)
    assert str(found.name) == SECOND and (directory / "__1_0.distcp").exists()
    assert [event["kind"] for event in events] == ["checkpoint_doubted"]
