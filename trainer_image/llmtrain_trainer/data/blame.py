"""What an error of a library means for whoever started the job: bad data that is named, or something that a later try may mend."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from llmtrain_trainer.data.bad_data import BadData, Unreachable

_TRANSPORTS = ("botocore", "aiobotocore", "aiohttp", "s3fs", "urllib3", "requests", "httpx", "httpcore", "huggingface_hub")
"""Packages whose errors say that no whole answer came."""

_SETTINGS = re.compile("ParamValidation.*|NoCredentials.*|PartialCredentials.*|NoRegion.*|InvalidRegion.*|ProfileNotFound")
"""What botocore raises before it asks anybody."""

_PERMANENT = (errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL)
"""What the system answers again and again; other numbers (a stale mount, a full disk, a file that went) may change."""

_NOT_OURS = (BadData, Unreachable, MemoryError, KeyboardInterrupt, SystemExit, GeneratorExit)


@contextmanager
def blamed_on(field: str, value: object, what: str, way_out: str, *, passing: tuple[type[BaseException], ...] = ()) -> Iterator[None]:
    """Errors of what is done here with `value`: BadData with the rule `what`, or Unreachable where a later try may go well.

    Running out of memory, the end of the process, errors that were judged already and those named by `passing` pass. PanicException of
    the tokenizers is no Exception, so every BaseException is judged.
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
    """The same as a value."""
    if isinstance(error, Exception) and may_pass(error):
        return Unreachable(field, value, error)
    return BadData(field, value, f"{what} ({first_line(error)})", way_out)


def may_pass(error: BaseException) -> bool:
    """Whether the same call may go well later: no answer, or the system's error of the moment. What a decoder says never is."""
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True
    if _SETTINGS.fullmatch(type(error).__name__):
        return False
    if type(error).__module__.partition(".")[0] in _TRANSPORTS:
        return True
    return isinstance(error, OSError) and error.errno is not None and error.errno not in _PERMANENT


def first_line(error: BaseException) -> str:
    """What an error says, short enough for a sentence; its type where that is all it says."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    return text[:300].rstrip(".") if text else type(error).__name__
