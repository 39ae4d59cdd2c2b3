"""The uploader's speed against the store's own: the same shards sent by the uploader and by boto3's transfer manager to one S3 server.

Called by benchmarks/trainer.py. The uploader also hashes, writes a manifest, lists what it wrote and commits; boto3 only sends.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from loading import load

from llmtrain_trainer.checkpoint.store.destination import open_store
from llmtrain_trainer.checkpoint.uploader import Uploader
from llmtrain_trainer.convert.launch import launch

MEGABYTES, ROUNDS = 768, 5
NAME = "step-00000001-a0-r0"


def measure() -> dict[str, Any]:
    """Bytes a second of each, and the median of the ratio round by round."""
    servers = load("tests/servers/s3_server.py")
    with tempfile.TemporaryDirectory() as scratch:
        shards = Path(scratch) / "shards"
        launch(Path(__file__), "write_shards", 1, str(shards), timeout=300)
        (Path(scratch) / "server").mkdir()
        with servers.run_s3_server(Path(scratch) / "server") as server:
            os.environ.update(server.environment())
            rates = [_round(server, shards, number) for number in range(ROUNDS + 1)][1:]
            kind = server.kind
        copies = [_directory_round(shards, Path(scratch) / f"copy-{number}") for number in range(ROUNDS + 1)][1:]
    ours, raw = zip(*rates, strict=True)
    return {
        "server": kind,
        "megabytes": MEGABYTES,
        "uploader_bytes_per_second": statistics.median(ours),
        "boto3_bytes_per_second": statistics.median(raw),
        "uploader_over_boto3": statistics.median(a / b for a, b in rates),
        "uploader_over_copy_to_a_directory": statistics.median(a / b for a, b in copies),
    }


def write_shards(directory: str) -> None:
    """On the rank: one save of random numbers, as training writes it."""
    import torch

    from llmtrain_trainer.checkpoint.writer import CheckpointWriter

    state = {f"layer.{i}.weight": torch.rand(MEGABYTES * 2**20 // 4 // 12) for i in range(12)}
    meta = {"step": 1, "consumed_samples": 1, "target_steps": 1, "attempt": 0, "round": 0, "mesh": {}}
    writer = CheckpointWriter(Path(directory))
    writer.save(NAME, {"model": state}, meta)
    writer.finish()


def _round(server: Any, shards: Path, number: int) -> tuple[float, float]:
    """Bytes a second of the uploader and of boto3, each into a bucket of its own, which is emptied after."""
    files = list((shards / NAME).iterdir())
    size = sum(file.stat().st_size for file in files)
    bucket = server.new_bucket()

    ours = size / _upload_seconds(shards, f"s3://{bucket}/job")

    import boto3

    client = boto3.client("s3")
    began = time.perf_counter()
    for file in files:
        client.upload_file(str(file), bucket, f"raw/{file.name}")
    raw = size / (time.perf_counter() - began)
    for row in client.list_objects_v2(Bucket=bucket).get("Contents", []):
        client.delete_object(Bucket=bucket, Key=row["Key"])
    print(f"upload round {number}: uploader {ours / 1e6:.0f} MB/s, boto3 {raw / 1e6:.0f} MB/s")
    return ours, raw


def _directory_round(shards: Path, place: Path) -> tuple[float, float]:
    """The same for a store that is a directory: the uploader against copying the files and syncing them."""
    files = list((shards / NAME).iterdir())
    size = sum(file.stat().st_size for file in files)
    ours = size / _upload_seconds(shards, f"file://{place}/store")
    (place / "raw").mkdir()
    began = time.perf_counter()
    for file in files:
        with (place / "raw" / file.name).open("wb") as copy, file.open("rb") as source:
            shutil.copyfileobj(source, copy, 1 << 20)
            copy.flush()
            os.fsync(copy.fileno())
    raw = size / (time.perf_counter() - began)
    shutil.rmtree(place)
    print(f"to a directory: uploader {ours / 1e6:.0f} MB/s, copy {raw / 1e6:.0f} MB/s")
    return ours, raw


def _upload_seconds(shards: Path, destination: str) -> float:
    """Of one save, from staged to committed."""
    with tempfile.TemporaryDirectory(dir=shards.parent) as scratch:
        staging = Path(scratch) / "staging"
        shutil.copytree(shards, staging, copy_function=os.link)
        uploader = Uploader(staging, open_store(destination), 0, 1, [0], 2, None, lambda _: None)
        began = time.perf_counter()
        assert uploader.drain(300)
        assert uploader.last is not None
        return time.perf_counter() - began


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
