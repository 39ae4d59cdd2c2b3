"""An S3 server whose answers are damaged at random: a whole checkpoint is taken, or the end says why.

`make fuzz` tries many.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from random import Random
from typing import Any

import pytest
from answering import answering
from gang import Gang
from test_lies import FIRST, SECOND, Liar, handler

from llmtrain_trainer.checkpoint.restore import choose
from llmtrain_trainer.checkpoint.store.destination import open_store
from llmtrain_trainer.checkpoint.store.errors import ResumeError, StoreError
from llmtrain_trainer.checkpoint.store.file_store import FileStore
from llmtrain_trainer.checkpoint.store.retry import Backoff

pytestmark = [pytest.mark.long, pytest.mark.timeout(3000)]

COUNT = int(os.environ.get("LLMTRAIN_ODD_ANSWERS", "20"))
CODES = [200, 204, 206, 301, 307, 400, 403, 404, 412, 416, 429, 500, 503, 599]
ODD = [
    b"\x00",
    b"\xff\xfe",
    b"<",
    b"&#0;",
    b"<Size>-1</Size>",
    b"9" * 5000,
    b"<a>" * 3000,
    b"NaN",
    b"{",
    b"../../",
    b"\r\n\r\n",
    b"\xed\xa0\x80",
]


class Damage:
    """What happens to the answers of one try: from one of them on, to some of them."""

    def __init__(self, number: int) -> None:
        self.random = Random(number)
        self.first, self.left = self.random.randrange(6), self.random.choice([1, 1, 2, 5, 10**9])
        self.lock = threading.Lock()

    def done(self, code: int, body: bytes) -> tuple[int, bytes, dict[str, str], bool]:
        """Code, body and headers as they go out, and whether the connection is cut in the middle."""
        with self.lock:
            self.first -= 1
            if self.first >= 0 or self.left <= 0:
                return code, body, {}, False
            self.left -= 1
            kind = self.random.choice(["code", "flip", "cut", "drop", "insert", "empty", "headers", "torn"])
            at = self.random.randrange(len(body) + 1)
            match kind:
                case "code":
                    return self.random.choice(CODES), body, {"Location": "http://127.0.0.1:9/"}, False
                case "flip" if body:
                    at = min(at, len(body) - 1)
                    return code, body[:at] + bytes([self.random.randrange(256)]) + body[at + 1 :], {}, False
                case "cut":
                    return code, body[:at], {}, False
                case "drop":
                    return code, body[:at] + body[at + self.random.randrange(1, 300) :], {}, False
                case "insert":
                    return code, body[:at] + self.random.choice(ODD) + body[at:], {}, False
                case "headers":
                    odd = self.random.choice(["gzip", "aws-chunked", "x"])
                    return (
                        code,
                        body,
                        {"Content-Encoding": odd, "ETag": '"0"', "x-amz-checksum-crc32": "AAAAAA==", "Last-Modified": "?"},
                        False,
                    )
                case "torn":
                    return code, body, {}, True
            return code, b"", {}, False


class Odd:
    """The bucket of test_lies.py, and the damage of the try that runs."""

    def __init__(self, root: Path) -> None:
        self.truth, self.damage = Liar(root), Damage(0)

    def handler(self) -> type[BaseHTTPRequestHandler]:
        whole: Any = handler(self.truth)

        class Damaged(whole):
            def handle(inner) -> None:  # noqa: N805 - `self` is the bucket
                with suppress(OSError):
                    super().handle()

            # type: ignore[misc]
            def out(inner, code: int, body: bytes) -> None:  # noqa: N805
                code, sent, headers, torn = self.damage.done(code, body)
                inner.send_response(code)
                for name, value in {"Content-Length": str(len(sent)), **headers}.items():
                    inner.send_header(name, value)
                inner.end_headers()
                with suppress(OSError):  # who asked may have gone
                    inner.wfile.write(sent[: len(sent) // 2] if torn else sent)
                inner.close_connection = torn or inner.close_connection

        return Damaged


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Odd]:
    gang = Gang(tmp_path, FileStore(tmp_path / "truth"))
    gang.save(FIRST)
    gang.save(SECOND)
    made = Odd(tmp_path / "truth")
    with answering(made.handler(), monkeypatch):
        yield made


def outcome(root: Path, number: int) -> str:
    """`second` or `first`, read whole; `none` where the store seems empty; or `told`."""
    store, into = open_store("s3://b/ck", Backoff(first=0.005, longest=0.01, deadline=0.3, doubt=0.1)), root / f"into-{number}"
    try:
        found = choose(store, "latest", lambda _: None, into=into)
    except (StoreError, ResumeError) as error:
        assert str(error)
        return "told"
    if found is None:
        return "none"
    names = {FIRST: "first", SECOND: "second"}
    for path in (path for path in into.rglob("*") if path.is_file() and path.name.endswith((".distcp", ".metadata"))):
        (original,) = (root / "truth" / str(found.name)).rglob(path.name)
        assert path.read_bytes() == original.read_bytes(), f"try {number} took {path.name} with other bytes"
    return names[str(found.name)]


def test_damaged_answers_cost_no_byte_and_end_with_a_reason(odd: Odd, tmp_path: Path) -> None:
    counts = Counter[str]()
    for number in range(COUNT):
        odd.damage = Damage(number)
        counts[outcome(tmp_path, number)] += 1
    read = f"{counts['second']} read, {counts['first']} the one before, {counts['none']} taken for empty"
    print(f"S3: {COUNT} tried, {counts['told']} refused, {read}, 0 crashed")
    assert counts["second"] > COUNT / 4 and counts["none"] == 0, counts
