"""Tensors of a checkpoint, whole or in part, without the rest: gathered from shards along any axis, they are what was sharded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributed.checkpoint import FileSystemWriter, save
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata, MetadataIndex, TensorProperties, TensorStorageMetadata

from llmtrain_trainer.checkpoint.manifest import METADATA
from llmtrain_trainer.checkpoint_readers.native import Native
from llmtrain_trainer.checkpoint_readers.parts import ShardReader
from llmtrain_trainer.checkpoint_readers.reader import MOMENTS


def saved(directory: Path, tensors: dict[str, torch.Tensor]) -> Path:
    save(dict(tensors), storage_writer=FileSystemWriter(directory), no_dist=True)
    return directory


def sharded(directory: Path, whole: torch.Tensor, axis: int, parts: int) -> Path:
    """What `parts` ranks would write of `whole`: a file with their shards one after the other, each a chunk of the one tensor."""
    import io
    import pickle

    from torch.distributed.checkpoint.filesystem import _StorageInfo

    chunks, places, data, offset = [], {}, io.BytesIO(), 0
    for shard in torch.chunk(whole, parts, axis):
        offsets = [0] * whole.ndim
        offsets[axis] = offset
        offset += shard.shape[axis]
        chunks.append(ChunkStorageMetadata(offsets=torch.Size(offsets), sizes=shard.shape))
        begin = data.tell()
        torch.save(shard.contiguous().clone(), data)
        places[MetadataIndex("w", torch.Size(offsets), len(chunks) - 1)] = _StorageInfo("__0_0.distcp", begin, data.tell() - begin)
    found = TensorStorageMetadata(properties=TensorProperties(dtype=whole.dtype), size=whole.shape, chunks=chunks)
    (directory / "__0_0.distcp").write_bytes(data.getvalue())
    (directory / METADATA).write_bytes(pickle.dumps(Metadata({"w": found}, storage_data=places)))
    return directory


@settings(max_examples=25)  # each writes files
@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.data())
def test_shards_along_any_axis_and_of_odd_sizes_are_read_as_one(
    tmp_path_factory: pytest.TempPathFactory, shape: list[int], data: st.DataObject
) -> None:
    axis, parts = data.draw(st.integers(0, len(shape) - 1)), data.draw(st.integers(1, 4))
    whole = torch.arange(torch.Size(shape).numel(), dtype=torch.float32).reshape(shape)
    reader = ShardReader(sharded(tmp_path_factory.mktemp("shards"), whole, axis, parts))
    assert reader.shapes == {"w": whole.shape} and reader.read("w").equal(whole)
    at = [data.draw(st.integers(0, size - 1)) for size in shape[: data.draw(st.integers(0, len(shape)))]]
    assert reader.read("w", at).equal(whole[tuple(at)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
def test_a_tensor_keeps_its_dtype(tmp_path: Path, dtype: torch.dtype) -> None:
    whole = torch.arange(6).reshape(2, 3).to(dtype)
    found = ShardReader(saved(tmp_path, {"w": whole, "other": torch.zeros(7)})).read("w", [1])
    assert found.dtype == dtype and found.equal(whole[1])


def state(steps: int | None, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    made: dict[str, Any] = {"model.a.weight": torch.arange(6.0).reshape(2, 3).to(dtype)}
    if steps is not None:
        made |= {f"optimizer.a.weight.{key}": torch.full((2, 3), number + 0.5) for number, key in enumerate(MOMENTS)}
        made["optimizer.a.weight.step"] = torch.tensor(float(steps))
    return made


@pytest.mark.parametrize(("steps", "expected"), [(7, 7), (0, 0), (None, 0)], ids=["trained", "not yet", "weights alone"])
def test_a_checkpoint_of_native_names_weights_as_the_model_does(tmp_path: Path, steps: int | None, expected: int) -> None:
    reader = Native(saved(tmp_path, state(steps)), torch.nn.Identity())
    assert reader.shapes == {"a.weight": torch.Size([2, 3])} and reader.steps == expected
    assert reader.read("a.weight").equal(torch.arange(6.0).reshape(2, 3))
    if steps is not None:
        assert [reader.read("a.weight", key)[0, 0].item() for key in MOMENTS] == [0.5, 1.5]


def test_weights_in_16_bits_are_given_in_32(tmp_path: Path) -> None:
    assert Native(saved(tmp_path, state(1, torch.bfloat16)), torch.nn.Identity()).read("a.weight").dtype == torch.float32


def test_a_weight_that_is_not_there_is_no_tensor_of_zeros(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        Native(saved(tmp_path, state(1)), torch.nn.Identity()).read("b.weight")
