"""What a process says of the error that it dies of: the sentence that helps most, and the kind that decides what follows."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llmtrain_trainer.config.place import place
from llmtrain_trainer.data.bad_data import BadData, Unreachable
from llmtrain_trainer.run_dir.last_words import classify, write_last_words

REFUSED = BadData("dataset[0].source", "file:///text.jsonl", "row 3 is no object", "Correct the row")
SILENT = Unreachable("dataset[0].source", "s3://data/text.jsonl", TimeoutError("no answer"))


def ours() -> ValueError:
    """A ValueError raised by the trainer's own code."""
    try:
        place("pvc:///path")
    except ValueError as error:
        return error
    raise AssertionError("a destination without a claim was taken")


def chained(error: BaseException, *, cause: BaseException | None = None, context: BaseException | None = None) -> BaseException:
    """The error as Python links it where it is raised from a cause, or while another is handled."""
    try:
        if context is None:
            raise error from cause
        try:
            raise context
        except BaseException:
            raise error  # noqa: B904 - what is tested
    except BaseException as raised:
        return raised


def words(tmp_path: Path, error: BaseException, *, step: int = 3, starting: bool = False) -> dict[str, object]:
    path = tmp_path / "rank-0.json"
    kind = write_last_words(path, error, step=step, starting=starting)
    found: dict[str, object] = json.loads(path.read_text())
    assert found["kind"] == kind
    return found


@pytest.mark.parametrize(
    ("error", "starting", "kind"),
    [
        (REFUSED, True, "data"),
        (REFUSED, False, "data"),
        (SILENT, True, "unreachable"),
        (MemoryError(), False, "oom"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), False, "oom"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), False, "oom"),
        (OSError(12, "Cannot allocate memory"), False, "oom"),
        (ValueError("hidden_size is 0"), True, "config"),
        (ValueError("hidden_size is 0"), False, "crash"),
        (TypeError("unexpected keyword"), True, "crash"),
        (RuntimeError("Connection closed by peer [10.0.0.2]:4711"), False, "peer"),
        (ConnectionResetError(104, "Connection reset by peer"), False, "peer"),
        (BrokenPipeError(32, "Broken pipe"), False, "peer"),
        (RuntimeError("NCCL error: ncclRemoteError"), False, "peer"),
        (RuntimeError("Wait timeout after 600000ms for key(s): x"), False, "peer"),
        (KeyError("x"), False, "crash"),
        (RuntimeError(""), False, "crash"),
    ],
    ids=repr,
)
def test_an_error_is_of_the_kind_that_decides_whether_a_restart_helps(error: BaseException, starting: bool, kind: str) -> None:
    assert classify(error, starting=starting) == kind


class OutOfMemoryError(RuntimeError):
    """As torch calls it."""


def test_an_error_is_known_by_its_type_where_its_text_says_nothing() -> None:
    assert classify(OutOfMemoryError("allocation on device 0"), starting=False) == "oom"


@pytest.mark.parametrize(
    "made",
    [
        lambda: REFUSED,
        lambda: chained(RuntimeError("stage 1 failed"), cause=REFUSED),
        lambda: chained(RuntimeError("cleaning up failed"), context=REFUSED),
        lambda: chained(RuntimeError("outer"), cause=chained(KeyError("x"), cause=REFUSED)),
        lambda: ExceptionGroup("tasks", [KeyError("x"), REFUSED]),
        lambda: chained(RuntimeError("around"), cause=ExceptionGroup("tasks", [ExceptionGroup("more", [REFUSED])])),
        lambda: chained(MemoryError(), cause=REFUSED),
        lambda: chained(RuntimeError("out of memory"), context=chained(KeyError("x"), cause=REFUSED)),
    ],
    ids=["itself", "cause", "context", "cause of a cause", "in a group", "in a group of a cause", "before memory", "cause of a context"],
)
def test_a_refusal_is_told_wherever_it_stands(tmp_path: Path, made: Callable[[], BaseException]) -> None:
    found = words(tmp_path, made())
    assert (found["kind"], found["message"]) == ("data", str(REFUSED))


def test_a_refusal_that_was_deliberately_left_behind_is_not_told(tmp_path: Path) -> None:
    try:
        try:
            raise REFUSED
        except BadData:
            raise KeyError("another way failed too") from None
    except KeyError as error:
        found = words(tmp_path, error)
    assert found["type"] == "KeyError"


def test_memory_that_ran_out_is_told_rather_than_the_wrapper_around_it(tmp_path: Path) -> None:
    found = words(tmp_path, chained(RuntimeError("stage 1 failed"), cause=RuntimeError("CUDA out of memory")))
    assert (found["kind"], found["message"]) == ("oom", "CUDA out of memory")


def test_a_sentence_of_our_own_is_told_rather_than_the_librarys_error_below_it(tmp_path: Path) -> None:
    found = words(tmp_path, chained(ours(), cause=KeyError("netloc")), starting=True)
    assert found["kind"] == "config" and "pvc:// needs a name" in str(found["message"])


def test_of_errors_of_others_the_first_cause_is_told(tmp_path: Path) -> None:
    found = words(tmp_path, chained(ValueError("cannot build the pipeline"), cause=chained(TypeError("middle"), cause=KeyError("first"))))
    assert (found["type"], found["message"]) == ("KeyError", "'first'")


def test_an_error_that_only_happened_to_be_handled_meanwhile_is_no_cause(tmp_path: Path) -> None:
    found = words(tmp_path, chained(RuntimeError("the loss of step 3 is NaN"), context=KeyError("a cache that had no entry")))
    assert found["message"] == "the loss of step 3 is NaN"


def test_a_chain_that_leads_back_to_itself_has_an_end(tmp_path: Path) -> None:
    first, second = RuntimeError("first"), RuntimeError("second")
    first.__cause__, second.__cause__ = second, first
    assert words(tmp_path, first)["message"] == "second"
    third, fourth = RuntimeError("third"), RuntimeError("fourth")
    third.__context__, fourth.__context__ = fourth, third
    assert words(tmp_path, third)["message"] == "third"


def test_an_error_without_a_text_is_told_by_its_type(tmp_path: Path) -> None:
    assert words(tmp_path, KeyboardInterrupt())["message"] == "KeyboardInterrupt"
    assert words(tmp_path, RuntimeError("  \n"))["message"] == "RuntimeError"


def test_the_words_have_step_time_and_the_traceback_of_the_whole_chain(tmp_path: Path) -> None:
    began = time.time()
    found = words(tmp_path, chained(RuntimeError("outer"), cause=KeyError("inner")), step=41)
    assert found["step"] == 41 and began <= float(str(found["time"])) <= time.time()
    assert "RuntimeError: outer" in str(found["traceback"]) and "KeyError: 'inner'" in str(found["traceback"])
