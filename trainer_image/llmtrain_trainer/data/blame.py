"""What an error of a library means: bad data, or a failure that a retry may fix."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from llmtrain_trainer.data.bad_data import BadData, Unreachable

_TRANSPORTS = ("botocore", "aiobotocore", "aiohttp", "s3fs", "urllib3", "requests", "httpx", "httpcore", "huggingface_hub")
"""Packages whose errors mean an incomplete or missing response."""

_SETTINGS = re.compile("ParamValidation.*|NoCredentials.*|PartialCredentials.*|NoRegion.*|InvalidRegion.*|ProfileNotFound")
"""Errors that botocore raises before it sends a request."""

_PERMANENT = (errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL)
"""Permanent errors of the system; others (a stale mount, a full disk, a deleted file) may change."""

_NOT_OURS = (BadData, Unreachable, MemoryError, KeyboardInterrupt, SystemExit, GeneratorExit)


@contextmanager
def blamed_on(field: str, value: object, what: str, way_out: str, *, passing: tuple[type[BaseException], ...] = ()) -> Iterator[None]:
    """Turns errors of the block, which reads `value`, into BadData with the rule `what`, or Unreachable if a retry may succeed.

    Not converted: running out of memory, the end of the process, errors that were converted already, and those named by `passing`.
    PanicException of the tokenizers is no Exception, so every BaseException is considered.
    """
    try:
        yield
    except _NOT_OURS:
        raise
    except BaseException as error:
        if isinstance(error, passing):
            raise
        raise judged(error, field, value, what, way_out) from error


def judged(error: BaseException, field: str, value: object, what: str, way_out: str) -> BadData | Unreachable:
    """The converted error, as a value."""
    if isinstance(error, Exception) and may_pass(error):
        return Unreachable(field, value, error)
    return BadData(field, value, f"{what} ({first_line(error)})", way_out)


def may_pass(error: BaseException) -> bool:
    """Whether the same call may succeed later: no response, or a transient error of the system. An error of a decoder never is."""
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True
    if _SETTINGS.fullmatch(type(error).__name__):
        return False
    if type(error).__module__.partition(".")[0] in _TRANSPORTS:
        return True
    return isinstance(error, OSError) and error.errno is not None and error.errno not in _PERMANENT


def first_line(error: BaseException) -> str:
    """The message of an error, short enough for a sentence; its type if it has no message."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    return text[:300].rstrip(".") if text else type(error).__name__
