"""Which checkpoints an engine reads by itself: its own, of any layout but for two changes that Megatron's files do not allow."""

from __future__ import annotations

from typing import Any

import pytest

from llmtrain_trainer.checkpoint.manifest import Meta
from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.engines.own_format import is_own_format

LAYERS = 4


def run(engine: str = "native", **mesh: Any) -> TrainerConfig:
    """A run of this engine; degrees that are not given are 1."""
    pp = mesh.get("pp", 1)
    mesh = {"stages": [(LAYERS // pp * stage, LAYERS // pp * (stage + 1)) for stage in range(pp)], "zeroStage": 1} | mesh
    return TrainerConfig.model_validate(
        {
            "job": {"name": "fit"},
            "task": "pretrain",
            "engine": engine,
            "device": "cpu",
            "model": {"config": {"model_type": "llama"}},
            "dataset": [{"source": "file:///none"}],
            "training": {"globalBatchSize": 8, "sequenceLength": 32, "maxSteps": 1},
            "mesh": mesh,
            "batch": {"globalSize": 8, "microSize": 1, "accumulation": 1},
        }
    )


def written(config: TrainerConfig, **facts: Any) -> Meta:
    """What that run says of its checkpoints."""
    file_format = "dcp" if config.engine == "native" else config.engine
    mesh = config.mesh.model_dump(mode="json", by_alias=True)
    return Meta.model_validate({"step": 200, "mesh": mesh, "engine": config.engine, "format": file_format} | facts)


@pytest.mark.parametrize("engine", ["native", "deepspeed", "megatron"])
def test_an_engine_reads_its_files_in_any_layout(engine: str) -> None:
    assert is_own_format(written(run(engine, pp=2, dp=2)), run(engine, tp=4))
    assert is_own_format(written(run(engine, pp=2, stages=[(0, 1), (1, 4)])), run(engine, pp=2))


@pytest.mark.parametrize(("engine", "itself"), [("native", True), ("deepspeed", True), ("megatron", False)])
def test_another_zero_stage_is_another_kind_of_file_for_megatron_alone(engine: str, itself: bool) -> None:
    assert is_own_format(written(run(engine, dp=2, zeroStage=1)), run(engine, dp=2, zeroStage=0)) is itself


def test_a_checkpoint_that_says_no_format_is_native() -> None:
    assert is_own_format(Meta(step=3), run(dp=2))


def test_without_sharing_the_optimizer_megatron_keeps_its_experts() -> None:
    assert is_own_format(written(run("megatron", pp=2, dp=2, ep=2)), run("megatron", tp=2))
    assert not is_own_format(written(run("megatron", dp=2, ep=2, zeroStage=0)), run("megatron", dp=2, zeroStage=0))


@pytest.mark.parametrize(("writer", "reader"), [("native", "deepspeed"), ("deepspeed", "native"), ("deepspeed", "megatron")])
def test_another_engines_files_are_taken_over(writer: str, reader: str) -> None:
    assert not is_own_format(written(run(writer)), run(reader))
