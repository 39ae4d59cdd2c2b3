"""What another rank sends as an object builds data and runs nothing."""

from __future__ import annotations

import enum
import io
import os
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.metadata import MetadataIndex
from torch.distributed.checkpoint.planner import SavePlan, WriteItem, WriteItemType

from llmtrain_trainer.checkpoint.store.errors import BadCheckpointError
from llmtrain_trainer.convert.launch import launch
from llmtrain_trainer.rank import objects
from llmtrain_trainer.rank.objects import ForeignError


def received(data: bytes) -> Any:
    return objects.Listed(io.BytesIO(data)).load()


def told(error: BaseException) -> str:
    """As DCP tells of a failure on another rank."""
    try:
        raise error
    except BaseException as raised:
        sent = (raised, traceback.extract_tb(raised.__traceback__))
    failure, where = received(pickle.dumps(sent))
    assert isinstance(failure, BaseException) and isinstance(where, traceback.StackSummary)
    return "".join(traceback.format_exception_only(failure))


class WithGetattr(pickle.Pickler):
    """Writes members of enumerations as Python 3.11.0 to 3.11.3 does."""

    def reducer_override(self, given: Any) -> Any:
        return (getattr, (type(given), given.name)) if isinstance(given, enum.Enum) else NotImplemented


@pytest.mark.parametrize("pickler", [pickle.Pickler, WithGetattr])
def test_a_plan_arrives_as_it_was(pickler: Callable[..., pickle.Pickler]) -> None:
    plan = SavePlan(
        [WriteItem(MetadataIndex("a", torch.Size([0, 4])), WriteItemType.SHARD)], storage_data=torch.arange(3.0), planner_data={}
    )
    packed = io.BytesIO()
    pickler(packed).dump(plan)
    found = received(packed.getvalue())
    assert found.items == plan.items and torch.equal(found.storage_data, plan.storage_data)


def test_a_failure_elsewhere_keeps_its_sentence_whatever_its_class() -> None:
    assert told(OSError(28, "No space left on device")).endswith("OSError: [Errno 28] No space left on device\n")
    assert told(BadCheckpointError("step-1 is torn")) == "llmtrain_trainer.checkpoint.store.errors.BadCheckpointError: step-1 is torn\n"
    assert "KeyboardInterrupt" in told(KeyboardInterrupt())


class Payload:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> Any:
        return self._call


def of_a_tensor(data: bytes) -> bytes:
    """What torch takes for the bytes of a tensor, which it would unpickle again."""
    return pickle.dumps(Payload(torch.storage._load_from_bytes, data))  # type: ignore[attr-defined]


def hostile(canary: Path) -> dict[str, bytes]:
    runs = Payload(os.mkdir, str(canary))
    saved = io.BytesIO()
    torch.save({"w": runs}, saved)
    return {
        "a call": pickle.dumps(runs),
        "inside a plan": pickle.dumps(SavePlan([], planner_data=runs)),
        "as bytes of a tensor": of_a_tensor(pickle.dumps(runs)),
        "in a file of torch": of_a_tensor(saved.getvalue()),
        "by getattr": b"cbuiltins\ngetattr\n(ctraceback\nStackSummary\nVfrom_list\ntR.",
        "by a name with dots": b"\x80\x04\x8c\x09traceback\x8c\x18StackSummary.extract.__globals__\x93.",
        "a builtin that is no exception": pickle.dumps(Payload(eval, f"__import__('os').mkdir({str(canary)!r})")),
        "a module's function called Error": b"cos\nsystem\n(Vtrue\ntR.",
    }


@pytest.mark.parametrize("how", hostile(Path()))
def test_an_object_that_names_more_is_refused_and_runs_nothing(how: str, tmp_path: Path) -> None:
    canary = tmp_path / "the payload ran"
    with pytest.raises((ForeignError, pickle.UnpicklingError)):
        received(hostile(canary)[how])
    assert not canary.exists()


def test_a_torch_that_reads_objects_another_way_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.distributed.distributed_c10d, "_unpickler")
    with pytest.raises(RuntimeError, match="use the pinned torch"):
        objects.restrict()


def send_by_each(canary: str) -> dict[str, str]:
    """Runs in each of two ranks: the second sends the payload by each of torch's collectives of objects. Collective -> what was raised."""
    import torch.distributed as dist

    first, runs = dist.get_rank() == 0, Payload(os.mkdir, canary)
    mine: Any = None if first else runs
    gathered: list[Any] = [None, None]
    ways: dict[str, Callable[[], Any]] = {
        "all_gather_object": lambda: dist.all_gather_object(gathered, mine),
        "gather_object": lambda: dist.gather_object(mine, gathered if first else None, dst=0),
        "broadcast_object_list": lambda: dist.broadcast_object_list([mine], src=1),
        "scatter_object_list": lambda: dist.scatter_object_list([None], None if first else [runs, None], src=1),
        "send_object_list": lambda: dist.recv_object_list([None], src=1) if first else dist.send_object_list([runs], dst=0),
    }
    raised = {}
    for name, send in ways.items():
        try:
            send()
        except Exception as error:
            raised[name] = type(error).__name__
        dist.barrier()
    return raised


@pytest.mark.processes
def test_every_collective_of_objects_is_restricted_in_a_rank(tmp_path: Path) -> None:
    canary = tmp_path / "the payload ran"
    raised = launch(Path(__file__), "send_by_each", 2, str(canary))
    every = {name for name in torch.distributed.distributed_c10d.__all__ if "object" in name} - {"recv_object_list"}
    assert raised == dict.fromkeys(every, "ForeignError") and not canary.exists()
