"""A rank's save: a copy that training cannot touch, shards another layout can load, and failures that are not swallowed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from s3_server import reserved_port

from llmtrain_trainer.checkpoint.restore import choose, fetch
from llmtrain_trainer.checkpoint.store.destination import open_store
from llmtrain_trainer.checkpoint.uploader import Uploader
from llmtrain_trainer.checkpoint.writer import snapshot
from llmtrain_trainer.convert.launch import launch

SCRIPT = Path(__file__).with_name("save_and_load.py")


def run_ranks(mode: str, world: int, directory: Path) -> dict[str, Any]:
    """What rank 0 printed."""
    port, environment = reserved_port(), os.environ | {"OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), mode, str(rank), str(world), str(port), str(directory)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world)
    ]
    try:
        outputs = [rank.communicate(timeout=120)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    assert [rank.returncode for rank in ranks] == [0] * world, "\n".join(outputs)
    said: dict[str, Any] = json.loads(outputs[0].splitlines()[-1])
    return said


@pytest.mark.processes
def test_what_two_ranks_saved_goes_through_the_store_and_loads_in_one(tmp_path: Path) -> None:
    staging, store, events = tmp_path / "run" / "staging", open_store(f"file://{tmp_path}/store"), list[dict[str, Any]]()
    saved = run_ranks("save", 2, staging)
    assert "error" not in saved
    assert Uploader(staging, store, 0, 1, (0, 1), 2, None, events.append).drain(120)
    assert [event["step"] for event in events] == [2, 4]

    found = choose(store, 2, events.append)
    assert found is not None
    loaded = run_ranks("load", 1, fetch(found, store, tmp_path / "run" / "restore"))
    assert loaded["saved"] == pytest.approx(saved["saved"], rel=1e-6), "the weights as they were when save was called"
    assert loaded["later"] == pytest.approx(saved["later"], rel=1e-5), "and the optimizer with them"
    assert saved["saved"] != pytest.approx(saved["later"], rel=1e-3), "else nothing was shown"


@pytest.mark.processes
def test_a_save_that_failed_in_the_background_is_an_error_of_the_next_call(tmp_path: Path) -> None:
    (tmp_path / "staging").write_text("a file where the directory should be")
    said = run_ranks("fail", 1, tmp_path / "staging")
    assert "could not be written" in said["error"] and "Check the space and the rights there." in said["error"]


def test_a_snapshot_does_not_change_with_its_source() -> None:
    state = {"model": {"weight": torch.ones(3)}, "optimizer": [{"step": torch.tensor(4.0), "rate": 0.5}], "names": ("a",)}
    copied = snapshot(state, None)
    state["model"]["weight"].zero_()  # type: ignore[call-overload, index]
    state["optimizer"][0]["step"].zero_()  # type: ignore[index]
    assert copied["model"]["weight"].tolist() == [1, 1, 1]
    assert copied["optimizer"][0]["step"].item() == 4
    assert copied["optimizer"][0]["rate"] == 0.5 and copied["names"] == ("a",)


def test_a_second_snapshot_fills_the_memory_of_the_first() -> None:
    first = snapshot({"a": torch.zeros(3), "b": torch.zeros(2)}, None)
    second = snapshot({"a": torch.ones(3), "b": torch.ones(5), "c": torch.ones(1)}, first)
    assert second["a"].data_ptr() == first["a"].data_ptr()
    assert [second[key].tolist() for key in "abc"] == [[1] * 3, [1] * 5, [1]], "where the shape differs, new memory is taken"


def test_a_snapshot_of_a_shared_and_strided_tensor_has_its_values() -> None:
    base = torch.arange(6.0).reshape(2, 3)
    copied = snapshot({"t": base.t(), "p": torch.nn.Parameter(base)}, None)
    base.zero_()
    assert copied["t"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert copied["p"].tolist() == [[0, 1, 2], [3, 4, 5]] and not copied["p"].requires_grad


def files_of_two_ranks(staging: Path, clash: bool) -> str | None:
    """In each rank: a save of one file of its own, or of one that both call the same. Rank 0 says what came of it."""
    import torch.distributed as dist

    from llmtrain_trainer.checkpoint.writer import CheckpointWriter

    name = "weights.txt" if clash else f"weights-{dist.get_rank()}.txt"
    writer = CheckpointWriter(staging)
    if clash and dist.get_rank() == 0:
        (staging / "step-00000001-a0-r0").mkdir(parents=True, exist_ok=True)
        (staging / "step-00000001-a0-r0" / name).touch()  # as the other rank's file would lie there
    writer.save_files(
        "step-00000001-a0-r0", lambda directory: (directory / name).write_text(name) and None, {"step": 1, "format": "deepspeed"}
    )
    try:
        writer.finish()
    except RuntimeError as error:
        return str(error)
    return None


@pytest.mark.processes
def test_files_that_an_engine_wrote_go_through_the_store(tmp_path: Path) -> None:
    staging, store = tmp_path / "run" / "staging", open_store(f"file://{tmp_path}/store")
    assert launch(Path(__file__), "files_of_two_ranks", 2, staging, False) is None
    assert Uploader(staging, store, 0, 1, (0, 1), 2, None, lambda _row: None).drain(120)
    found = choose(store, "latest", lambda _row: None)
    assert found is not None
    fetched = fetch(found, store, tmp_path / "run" / "restore")
    assert [(fetched / f"weights-{rank}.txt").read_text() for rank in range(2)] == ["weights-0.txt", "weights-1.txt"]


@pytest.mark.processes
def test_a_file_that_is_there_already_is_not_overwritten(tmp_path: Path) -> None:
    assert "weights.txt was written by two ranks" in launch(Path(__file__), "files_of_two_ranks", 2, tmp_path, True)
