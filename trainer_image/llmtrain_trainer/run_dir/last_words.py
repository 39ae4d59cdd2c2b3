"""What a process writes before it dies of an error: errors/rank-<r>.json or errors/prepare.json."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from llmtrain_trainer.config.tables.failures import RankFailureKind
from llmtrain_trainer.run_dir.layout import write_atomically

_HOME = Path(__file__).parents[1]
"""Messages of our own code."""

_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "outofmemory")
_PEER = (
    "connection closed by peer",
    "connection reset by peer",
    "broken pipe",
    "connection refused",
    "socket timeout",
    "timed out waiting",
    "remote error",
    "ncclremoteerror",
    "ncclsystemerror",
    "failed to recv",
    "connection was likely closed",
    "wait timeout after",
)


def write_last_words(path: Path, error: BaseException, *, step: int, starting: bool) -> RankFailureKind:
    """Write type, message, traceback, step and kind of the error; returns the kind.

    `starting`: before step 1, where a ValueError means the config.
    """
    cause = _telling(error)
    kind = classify(cause, starting=starting)
    words = {
        "time": time.time(),
        "kind": kind,
        "type": type(cause).__name__,
        "message": str(cause).strip() or type(cause).__name__,
        "traceback": "".join(traceback.format_exception(error)),
        "step": step,
    }
    write_atomically(path, json.dumps(words))
    return kind


def _telling(error: BaseException) -> BaseException:
    """The most informative error: a refusal anywhere in the chain or in a group, else running out of memory, else a ValueError of our own
    code, else the first cause.

    An error that we raise from a library's error says more than the library's; any other wrapper (a pipeline's, say) says less.
    """
    chain = list(_chain(error))
    for says_most in (_is_refusal, _is_memory, _is_our_sentence):
        if found := [each for each in chain if says_most(each)]:
            return found[0]
    return chain[-1]


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and its chain of causes and contexts; the members of a group one after the other, each once."""
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        if isinstance(each, BaseExceptionGroup):
            waiting += reversed(each.exceptions)
        origin = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
        if origin is not None and (each.__cause__ is not None or _refuses_somewhere(origin)):
            waiting.append(origin)


def _refuses_somewhere(error: BaseException) -> bool:
    """An error that was being handled when another was raised counts only if it, or its cause, is a refusal."""
    each: BaseException | None = error
    seen = set[int]()
    while each is not None and id(each) not in seen:
        if _is_refusal(each):
            return True
        seen.add(id(each))
        each = each.__cause__ or each.__context__
    return False


def _is_refusal(error: BaseException) -> bool:
    return any(kind.__name__ in ("BadData", "Unreachable") for kind in type(error).__mro__)  # by name: no imports while dying


def _is_our_sentence(error: BaseException) -> bool:
    trace = error.__traceback__
    if not isinstance(error, ValueError) or trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    return Path(trace.tb_frame.f_code.co_filename).is_relative_to(_HOME)


def _is_memory(error: BaseException) -> bool:
    text = f"{type(error).__name__}: {error}".lower()
    return isinstance(error, MemoryError) or any(sign in text for sign in _MEMORY)


def classify(error: BaseException, *, starting: bool) -> RankFailureKind:
    """Which class of failure an exception belongs to."""
    text = f"{type(error).__name__}: {error}".lower()
    if any(kind.__name__.startswith("BadData") for kind in type(error).__mro__):
        return "data"
    if any(kind.__name__ == "Unreachable" for kind in type(error).__mro__):
        return "unreachable"
    if _is_memory(error):
        return "oom"
    if isinstance(error, ValueError) and starting:
        return "config"
    if any(sign in text for sign in _PEER):
        return "peer"
    return "crash"
