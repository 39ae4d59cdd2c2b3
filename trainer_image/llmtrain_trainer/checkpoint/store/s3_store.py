"""A store in an S3 bucket, or in any server that speaks its protocol.

botocore's client is used directly: unlike the async layers above it, it can be called from many threads, so that hashing, signing
and sending run side by side. Credentials, AWS_ENDPOINT_URL and region come from botocore's own chain of environment and files.
Every body carries a CRC-32 that the server checks, so a bit flipped on the way is an error there. Signing bodies with SHA-256 would
do the same at the cost of hashing every byte twice: a file's own digest is over the whole of it, a signature over one part.
"""

from __future__ import annotations

import base64
import hashlib
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError, NoCredentialsError, ResponseStreamingError
from botocore.exceptions import ConnectionError as NoConnection
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from llmtrain_trainer.checkpoint.store.errors import MissingError, StoreError, StoreRefusedError, StoreUnreachableError
from llmtrain_trainer.checkpoint.store.paging import Bounds
from llmtrain_trainer.checkpoint.store.retry import Backoff, persist
from llmtrain_trainer.checkpoint.store.store import Digest, StoredObject, Traffic

T = TypeVar("T")

PART = 64 << 20
"""Bytes of a part of an upload. Large parts need fewer requests per second, and stores limit requests."""

MOST_PARTS = 10_000
READ = 16 << 20
"""Bytes of a ranged read."""

MOST_AT_ONCE = 64 << 20
"""Bytes of an answer that is read whole: more than any small object, or range, of ours has."""

AT_ONCE = 8
"""Parts in flight, over all files: with the part size, the bound of the memory an upload takes (512 MiB)."""

TRANSIENT_CODES = {
    "SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling", "ThrottlingException", "RequestLimitExceeded",
    "OperationAborted", "ConditionalRequestConflict", "IncompleteBody", "BadDigest", "XAmzContentSHA256Mismatch",
}  # fmt: skip
MISSING_CODES = {"NoSuchKey", "NoSuchUpload", "InvalidRange", "404", "416"}
WAYS_OUT = {
    "403": "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the key's rights to read, write, list and delete there",
    "301": "Set AWS_REGION to the bucket's region",
    "NoSuchBucket": "Create the bucket, or correct checkpoint.destination",
}
"""What to do, by status or code."""


class S3Store:
    """Keys are object keys below `prefix`."""

    def __init__(self, bucket: str, prefix: str, backoff: Backoff, part: int = PART, traffic: Traffic | None = None) -> None:
        self._bucket, self._prefix, self._backoff, self._part = bucket, f"{prefix}/" if prefix else "", backoff, part
        self._traffic = traffic
        self._lock = threading.Lock()
        self._current: Any = None
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="checkpoint-part")
        self._room = threading.BoundedSemaphore(AT_ONCE)

    @property
    def patience(self) -> float:
        return min(self._backoff.doubt, self._backoff.deadline)

    def uri(self, key: str = "") -> str:
        return f"s3://{self._bucket}/{self._prefix}{key}"

    def local(self, key: str) -> Path | None:  # noqa: ARG002 - a bucket has no local files
        return None

    def put_file(self, source: Path, key: str) -> Digest:
        """Upload a file in one request, or in parts if it is larger than one; returns its size and SHA-256."""
        size = source.stat().st_size
        if size > self._part:
            return self._put_parts(source, key, size)
        data = source.read_bytes()
        self._call("put_object", key, Body=data, ChecksumCRC32=_crc32(data))
        return Digest(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())

    def put_bytes(self, key: str, data: bytes) -> None:
        self._call("put_object", key, Body=data, ChecksumCRC32=_crc32(data))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """True if the key holds `data` now, by a conditional write (If-None-Match)."""
        try:
            self._call("put_object", key, Body=data, ChecksumCRC32=_crc32(data), IfNoneMatch="*")
        except StoreRefusedError as error:
            if _status(error.__cause__) == 501:  # a server without conditional writes
                return self._put_after_look(key, data)
            if _status(error.__cause__) != 412:
                raise
        # Read back: a lost answer makes our own second try fail with 412, and a server may ignore the condition.
        return self.get_bytes(key) == data

    def get_bytes(self, key: str) -> bytes:
        return self._read(key)

    def chunks(self, key: str, size: int) -> Iterator[bytes]:
        """The object in order, in ranges of READ bytes, of which AT_ONCE are read at a time."""
        starts, pending = iter(range(0, size, READ)), deque[Future[bytes]]()
        try:
            for start in starts:
                pending.append(self._pool.submit(self._read, key, Range=f"bytes={start}-{min(start + READ, size) - 1}"))
                if len(pending) == AT_ONCE:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

    def entries(self, prefix: str = "") -> list[StoredObject]:
        """All objects below `prefix`, sorted by key."""
        entries, bounds = dict[str, StoredObject](), Bounds(f"list_objects_v2 of {self.uri(prefix)}")
        more = dict[str, str]()
        while True:
            page = self._call("list_objects_v2", prefix, prefixed="Prefix", **more)
            found = [self._entry(row, prefix) for row in page.get("Contents") or ()]
            new = [entry for entry in found if entry.key not in entries and entry.key.startswith(prefix)]  # some servers list more
            entries |= {entry.key: entry for entry in new}
            if not page.get("IsTruncated"):
                return sorted(entries.values(), key=lambda entry: entry.key)
            more = {"ContinuationToken": bounds.next(page.get("NextContinuationToken"), news=bool(new))}

    def delete(self, keys: Sequence[str]) -> None:
        # One request per key: servers disagree on the checksum of the batch request.
        for future in [self._pool.submit(self._call, "delete_object", key) for key in keys]:
            future.result()

    def abort_stale_uploads(self, older_than: float) -> int:
        """Abort multipart uploads of this store that began more than `older_than` seconds ago; returns how many."""
        aborted, more, bounds = 0, dict[str, str](), Bounds(f"list_multipart_uploads of {self.uri()}")
        while True:
            page = self._call("list_multipart_uploads", "", prefixed="Prefix", **more)
            for row in page.get("Uploads") or ():
                key, upload, began = (self._told(row, name, "list_multipart_uploads", "") for name in ("Key", "UploadId", "Initiated"))
                if time.time() - began.timestamp() > older_than and key.startswith(self._prefix):
                    self._abort(key[len(self._prefix) :], upload)
                    aborted += 1
            if not page.get("IsTruncated"):
                return aborted
            key, upload = page.get("NextKeyMarker"), page.get("NextUploadIdMarker", "")
            bounds.next(key and f"{key} {upload}", news=bool(page.get("Uploads")))
            more = {"KeyMarker": key, "UploadIdMarker": upload}

    def _put_after_look(self, key: str, data: bytes) -> bool:
        try:
            return self.get_bytes(key) == data
        except MissingError:
            self.put_bytes(key, data)
            return self.get_bytes(key) == data

    def _put_parts(self, source: Path, key: str, size: int) -> Digest:
        begun = self._call("create_multipart_upload", key, ChecksumAlgorithm="CRC32")
        upload = self._told(begun, "UploadId", "create_multipart_upload", key)
        try:
            digest, parts = self._send(source, key, upload, max(self._part, -(-size // MOST_PARTS)))
            self._complete(key, upload, parts, digest.bytes)
        except BaseException:
            self._abort(key, upload)
            raise
        return digest

    def _send(self, source: Path, key: str, upload: str, part: int) -> tuple[Digest, list[dict[str, Any]]]:
        """Read and hash part after part while the parts before are on their way."""
        hasher, size, sent = hashlib.sha256(), 0, list[Future[dict[str, Any]]]()
        source_size = source.stat().st_size
        try:
            with source.open("rb") as file:
                while not any(future.done() and future.exception() for future in sent):
                    self._room.acquire()
                    # A bytearray goes to the socket as it is; bytes would be copied behind the headers first.
                    data = bytearray(min(part, source_size - size))
                    del data[file.readinto(data) :]
                    if not data:
                        self._room.release()
                        break
                    future = self._pool.submit(self._send_part, key, upload, len(sent) + 1, data)
                    future.add_done_callback(lambda _: self._room.release())
                    sent.append(future)
                    hasher.update(data)
                    size += len(data)
            return Digest(bytes=size, sha256=hasher.hexdigest()), [future.result() for future in sent]
        finally:
            for future in sent:
                future.cancel()

    def _send_part(self, key: str, upload: str, number: int, data: bytearray) -> dict[str, Any]:
        crc32 = _crc32(data)
        answer = self._call("upload_part", key, UploadId=upload, PartNumber=number, Body=data, ChecksumCRC32=crc32)
        return {"ETag": self._told(answer, "ETag", "upload_part", key), "PartNumber": number, "ChecksumCRC32": crc32}

    def _complete(self, key: str, upload: str, parts: list[dict[str, Any]], size: int) -> None:
        try:
            self._call("complete_multipart_upload", key, UploadId=upload, MultipartUpload={"Parts": parts})
        except MissingError:
            # The first try was done, but its answer was lost: the upload is gone because the object is there.
            if self._call("head_object", key).get("ContentLength") != size:
                raise

    def _abort(self, key: str, upload: str) -> None:
        """Best effort, one try: what stays is found by `abort_stale_uploads`."""
        with suppress(BotoCoreError, ClientError):
            self._client().abort_multipart_upload(Bucket=self._bucket, Key=self._prefix + key, UploadId=upload)

    def _call(self, operation: str, key: str, *, prefixed: str = "Key", **arguments: Any) -> Any:
        arguments |= {"Bucket": self._bucket, prefixed: self._prefix + key}
        return self._persist(operation, key, lambda: _understood(lambda: self._ask(operation, arguments)))

    def _ask(self, operation: str, arguments: Mapping[str, Any]) -> Any:
        """One request. Raises ResponseParserError where a list says nothing at all: botocore takes an empty body for an empty list."""
        answer = getattr(self._client(), operation)(**arguments)
        if operation.startswith("list_") and not answer.keys() - {"ResponseMetadata", "RequestCharged"}:
            raise ResponseParserError("the answer is no list")
        return answer

    def _told(self, answer: Mapping[str, Any], name: str, operation: str, key: str) -> Any:
        """What an answer says. Raises StoreUnreachableError where it does not say it."""
        if name not in answer:
            raise StoreUnreachableError(
                f"{operation} of {self.uri(key)} gave an answer without {name}. Check the store and AWS_ENDPOINT_URL."
            )
        return answer[name]

    def _read(self, key: str, **arguments: Any) -> bytes:
        def read() -> bytes:
            body: bytes = self._client().get_object(Bucket=self._bucket, Key=self._prefix + key, **arguments)["Body"].read(MOST_AT_ONCE + 1)
            if len(body) > MOST_AT_ONCE:
                raise StoreUnreachableError(f"get_object of {self.uri(key)} gave more than {MOST_AT_ONCE} bytes, which nobody asked for.")
            return body

        return self._persist("get_object", key, lambda: _understood(read))

    def _entry(self, row: Mapping[str, Any], prefix: str) -> StoredObject:
        """Raises StoreUnreachableError for a row that is no answer to what was asked."""
        key, size = row.get("Key"), row.get("Size")
        if not isinstance(key, str) or not isinstance(size, int) or not key.startswith(self._prefix):
            raise StoreUnreachableError(f"list_objects_v2 of {self.uri(prefix)} lists {str(key)[:200]}, which was not asked for.")
        return StoredObject(key=key[len(self._prefix) :], bytes=size)

    def _persist(self, operation: str, key: str, attempt: Callable[[], T]) -> T:
        again = self._traffic.tried_again if self._traffic else lambda: None
        try:
            try:
                return persist(attempt, _is_transient, self._backoff, again)
            except ClientError as error:
                if _status(error) != 403:
                    raise
                self._renew()  # keys are rotated in their file while a job runs: read them again, once
                again()
                return persist(attempt, _is_transient, self._backoff, again)
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            raise self._explain(operation, key, error) from error

    def _explain(self, operation: str, key: str, error: Exception) -> StoreError:
        code, status = _code(error), _status(error)
        what = f"{operation} of {self.uri(key)} failed: {code}"
        if _is_transient(error):
            return StoreUnreachableError(
                f"{what}, still after {self._backoff.deadline:g} s. Check the store and AWS_ENDPOINT_URL; it is retried."
            )
        if code in MISSING_CODES:
            return MissingError(f"{what}.")
        if isinstance(error, NoCredentialsError):
            status = 403
        return StoreRefusedError(f"{what}. {WAYS_OUT.get(code) or WAYS_OUT.get(str(status)) or str(error).rstrip('.')}.")

    def _client(self) -> Any:
        with self._lock:  # making a client is not safe from two threads, using one is
            if self._current is None:
                self._current = _connect()
                if self._traffic is not None:
                    _report(self._current, self._traffic)
            return self._current

    def _renew(self) -> None:
        with self._lock:
            self._current = None


def _connect() -> Any:
    session = botocore.session.get_session()
    session.set_config_variable("region", session.get_config_variable("region") or "us-east-1")
    client = session.create_client("s3", config=_config("auto"))
    if "amazonaws.com" not in client.meta.endpoint_url:
        # Other servers seldom have a DNS name for every bucket.
        client = session.create_client("s3", config=_config("path"))
    return client


def _report(client: Any, traffic: Traffic) -> None:
    """Tell of every try, by botocore's own events."""
    events = client.meta.events
    events.register("after-call.s3", lambda http_response, model, **_: traffic.answered(model.name, str(http_response.status_code)))
    events.register("after-call-error.s3", lambda event_name, **_: traffic.answered(event_name.rpartition(".")[2], "error"))


def _config(addressing: str) -> Config:
    return Config(
        connect_timeout=5,
        read_timeout=60,
        max_pool_connections=4 * AT_ONCE,
        tcp_keepalive=True,
        retries={"total_max_attempts": 1},  # `persist` tries again, with a deadline
        request_checksum_calculation="when_required",  # we give a header of our own: many servers do not know the trailers
        response_checksum_validation="when_required",
        s3={"addressing_style": addressing, "payload_signing_enabled": False},
    )


def _understood(asked: Callable[[], T]) -> T:
    """Raises ResponseParserError where botocore fails on the answer with an error of Python, as it does on odd headers."""
    try:
        return asked()
    except (HTTPError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        if isinstance(error, (BotoCoreError, ClientError, ResponseParserError)):
            raise
        raise ResponseParserError(f"{type(error).__name__}: {error}"[:200]) from error


def _crc32(data: bytes | bytearray) -> str:
    """As the header x-amz-checksum-crc32 wants it."""
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, ClientError):
        return _status(error) in (429, 500, 502, 503, 504) or _code(error) in TRANSIENT_CODES
    # An answer that cannot be parsed did not come from the store: it may be the login page of a proxy.
    return isinstance(error, (NoConnection, HTTPClientError, IncompleteReadError, ResponseStreamingError, ResponseParserError))


def _status(error: BaseException | None) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) if isinstance(error, ClientError) else 0


def _code(error: BaseException) -> str:
    if isinstance(error, ClientError):
        return f"{error.response.get('Error', {}).get('Code', 'unknown')}"[:100]
    return type(error).__name__
