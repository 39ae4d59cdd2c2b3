"""Plan -> TrainerConfig, expected speed, advice, and reading a model's shape."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.manifest.problem import PlanError
from llmtrain_operator.manifest.quantity import quantity
from llmtrain_operator.plan.plan import Plan, plan
from llmtrain_operator.plan.trainer_config import hang_seconds, trainer_config
from llmtrain_operator.sources import LARGEST, read_shape
from llmtrain_trainer.config import Model, TrainerConfig

Planned = Callable[..., Plan]
Job = Callable[..., LLMTrainJob]


def test_the_trainer_is_told_what_was_planned(planned: Planned) -> None:
    found = planned(parallelism={"tensor": 2, "pipeline": 2}, checkpoint={"destination": "s3://bucket/job"})
    config = trainer_config(found.job, found, attempt=3)
    assert config.job.attempt == 3 and config.job.name == "job"
    assert config.mesh == found.mesh and config.batch == found.batch and config.device == "cuda"
    assert config.mesh.stages == ((0, 16), (16, 32))
    assert config.estimate.parameters == 8_030_261_248 and config.estimate.peak_flops_per_device == 989e12
    assert found.memory and config.estimate.memory_bytes_per_rank == found.memory.peak


def test_the_config_survives_json(planned: Planned) -> None:
    found = planned(parallelism={"tensor": 2})
    config = trainer_config(found.job, found, attempt=0)
    assert TrainerConfig.model_validate_json(config.model_dump_json(by_alias=True)) == config


def test_what_auto_chose_reaches_the_trainer(job: Job) -> None:
    wanted = job("llama-3-8b", parallelism={"auto": True}, training={"sequenceLength": 8192})
    found = plan(wanted, read_shape(wanted.spec.model))
    config = trainer_config(wanted, found, attempt=0)
    assert config.training.micro_batch_size == config.batch.micro_size == found.batch.micro_size
    assert (config.training.activation_checkpointing == "full") == found.recompute


def test_cpu_processes_train_on_the_cpu(planned: Planned) -> None:
    found = planned("qwen2.5-0.5b", resources={"nodes": 1, "procsPerNode": 2})
    config = trainer_config(found.job, found, attempt=0)
    assert config.device == "cpu" and config.estimate.tokens_per_second is None and config.estimate.peak_flops_per_device is None


@pytest.mark.parametrize(("hang", "expected"), [("auto", None), ("10m", 600.0), ("1h30m", 5400.0)])
def test_a_hang_is_seconds_or_learned(hang: str, expected: float | None) -> None:
    assert hang_seconds(hang) == expected


def test_no_hang_watch_is_longer_than_any_run() -> None:
    never = hang_seconds("none")
    assert never is not None and never > 10 * 365 * 86_400


def test_a_run_without_known_layers_is_not_configured(job: Job) -> None:
    wanted = job(model={"source": "pvc://models/llama"}, tokenizer=None)
    with pytest.raises(PlanError, match=r"config\.json must be known"):
        trainer_config(wanted, plan(wanted, None), attempt=0)


def test_speed_is_the_share_of_the_peak_less_bubble_and_recomputation(planned: Planned) -> None:
    plain = planned(training={"maxSteps": 100}).throughput
    again = planned(training={"activationCheckpointing": "full"}).throughput
    assert plain and again and plain.tokens_per_second and again.tokens_per_second and plain.seconds
    assert plain.tokens_per_second == pytest.approx(0.38 * 989e12 * 8 / plain.flops_per_token)
    assert again.tokens_per_second == pytest.approx(plain.tokens_per_second * 3 / 4)
    assert plain.seconds == pytest.approx(100 * 64 * 2048 / plain.tokens_per_second)


def test_the_bubble_is_that_of_the_schedule(planned: Planned) -> None:
    plain = planned(parallelism={"pipeline": 4}).throughput
    interleaved = planned(parallelism={"pipeline": 4, "virtualStages": 2}).throughput
    assert plain and plain.bubble == 3 / (32 + 3)
    assert interleaved and interleaved.bubble == 3 / (64 + 3)


def advised(found: Plan, words: str) -> bool:
    return any(words in sentence for sentence in found.advice)


ADVICE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "per parameter are compute-optimal": ({}, {"training": {"maxSteps": 2_000_000}}),
    "restarts from step 0": ({}, {"checkpoint": {"destination": "s3://bucket/job"}}),
    "micro-batches for 8 stages": ({"parallelism": {"pipeline": 8}, "training": {"globalBatchSize": 8}}, {"parallelism": {"pipeline": 8}}),
    "In fp32 H100-80GB reaches": ({"training": {"precision": "fp32"}}, {}),
    "exceeds the model's 8192": ({"training": {"sequenceLength": 16384}}, {"training": {"sequenceLength": 8192}}),
    "smaller stages wait": (
        {"parallelism": {"pipeline": 3}, "resources": {"nodes": 3, "gpusPerNode": 8, "gpu": "B200"}},
        {"parallelism": {"pipeline": 4}},
    ),
    "over PCIe": (
        {"parallelism": {"tensor": 2}, "resources": {"nodes": 1, "gpusPerNode": 8, "gpu": "L40S"}},
        {"parallelism": {"tensor": 2}},
    ),
    "Fine-tuning sees 64": ({"task": "sft", "training": {"maxSteps": 1}}, {"task": "sft"}),
    "Pin a commit": (
        {"model": {"source": "hf://meta/llama"}, "tokenizer": None},
        {"model": {"source": "hf://meta/llama", "revision": "abc"}, "tokenizer": None},
    ),
    "tensor groups cross nodes": (
        {"parallelism": {"tensor": 4}, "resources": {"nodes": 4, "procsPerNode": 2}},
        {"parallelism": {"tensor": 2}, "resources": {"nodes": 4, "procsPerNode": 2}},
    ),
    "s3://b/d is both trained on and evaluated": (
        {"dataset": [{"source": "s3://b/d"}], "evaluation": {"dataset": [{"source": "s3://b/d"}]}},
        {"dataset": [{"source": "s3://b/d"}], "evaluation": {"dataset": [{"source": "s3://b/e"}]}},
    ),
    "s3://b/d is both trained": (
        {"dataset": [{"source": "s3://b/d"}], "evaluation": {"dataset": [{"source": "s3://b/d", "split": "train[90%:]"}]}},
        {
            "dataset": [{"source": "s3://b/d", "split": "train[:90%]"}],
            "evaluation": {"dataset": [{"source": "s3://b/d", "split": "train[90%:]"}]},
        },
    ),
    "Rows of s3://b/d may be both trained on and evaluated": (
        {
            "dataset": [{"source": "s3://b/d", "split": "train[:900]"}],
            "evaluation": {"dataset": [{"source": "s3://b/d", "split": "train[90%:]"}]},
        },
        {
            "dataset": [{"source": "s3://b/d", "split": "train[:900]"}],
            "evaluation": {"dataset": [{"source": "s3://b/d", "split": "train[900:]"}]},
        },
    ),
    "a lower rank": ({"peft": {"method": "lora", "rank": 1024}}, {"peft": {"method": "lora"}}),
}


@pytest.mark.parametrize("words", ADVICE)
def test_advice_is_given_where_it_applies_and_not_elsewhere(planned: Planned, words: str) -> None:
    given, withheld = ADVICE[words]
    assert advised(planned(**given), words)
    assert not advised(planned(**withheld), words)


def test_a_shape_is_read_from_a_directory(tmp_path: Path, job: Job) -> None:
    (tmp_path / "config.json").write_text(json.dumps(job("qwen3-8b").spec.model.config))
    shape = read_shape(Model(source=f"file://{tmp_path}"))
    assert shape and shape.parameters == 8_190_735_360


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "it has no config.json"),
        ("{", "is not valid JSON"),
        ("[]", "is not a mapping"),
        ('{"model_type": "llama"}', "config.json.hidden_size"),
    ],
)
def test_an_unusable_config_json_is_refused(tmp_path: Path, text: str | None, says: str) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(PlanError, match=says):
        read_shape(Model(source=f"file://{tmp_path}"))


def test_a_config_json_that_is_no_model_is_refused_before_it_is_taken(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(PlanError, match="not a regular file"):
        read_shape(Model(source=f"file://{tmp_path}"))
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_bytes(b'{"model_type": "llama", "pad": "' + b"x" * LARGEST + b'"}')
    with pytest.raises(PlanError, match="more than 4 MiB"):
        read_shape(Model(source=f"file://{tmp_path}"))
    (tmp_path / "config.json").write_bytes(b"\xff\xfe")
    with pytest.raises(PlanError, match="is not text"):
        read_shape(Model(source=f"file://{tmp_path}"))
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(PlanError, match="is not valid JSON"):
        read_shape(Model(source=f"file://{tmp_path}"))


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """An S3 server whose objects never end, whatever is asked of it; gives the bytes that it could send."""
    from s3fs import S3FileSystem

    sent = [0]

    class Endless(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(1 << 40))
            self.end_headers()
            with suppress(OSError):
                while sent[0] < 1 << 30:
                    sent[0] += self.wfile.write(b"x" * (1 << 16))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endless)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    where = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    for name, value in where.items():
        monkeypatch.setenv(name, value)
    S3FileSystem.clear_instance_cache()
    yield sent
    server.shutdown()
    S3FileSystem.clear_instance_cache()


def test_an_object_without_end_is_read_no_further_than_a_config_can_be(endless: list[int]) -> None:
    with pytest.raises(PlanError, match="more than 4 MiB"):
        read_shape(Model(source="s3://evil/model"))
    assert endless[0] < 64 << 20


def test_a_volume_of_the_cluster_is_not_known_here() -> None:
    assert read_shape(Model(source="pvc://models/llama")) is None


def test_a_cached_repository_is_read_without_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: Job) -> None:
    from huggingface_hub import constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "models--owner--name" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps(job("qwen3-8b").spec.model.config))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    shape = read_shape(Model(source="hf://owner/name", revision=commit))
    assert shape and shape.layers == 36


def test_a_hub_out_of_reach_leaves_the_shape_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert read_shape(Model(source="hf://owner/name")) is None


def test_a_name_the_hub_cannot_have_is_refused() -> None:
    with pytest.raises(PlanError, match="not a valid repository of the hub"):
        read_shape(Model(source="hf://owner/name/too/long"))


@pytest.mark.parametrize(("text", "number"), [("64Gi", 64 * 2**30), ("1.5G", 1.5e9), ("500m", 0.5), ("16", 16)])
def test_a_quantity_is_a_number(text: str, number: float) -> None:
    assert quantity(text) == number
