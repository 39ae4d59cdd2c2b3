"""Which checkpoints a run can load: its own engine's, of any layout but for a few changes that Megatron's files do not allow."""

from __future__ import annotations

from typing import Any

import pytest

from llmtrain_trainer.checkpoint.errors import ResumeError
from llmtrain_trainer.checkpoint.fit import check
from llmtrain_trainer.checkpoint.manifest import Meta
from llmtrain_trainer.config import TrainerConfig

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
    check(written(run(engine, pp=2, dp=2)), run(engine, tp=4))
    check(written(run(engine, pp=2, stages=[(0, 1), (1, 4)])), run(engine, pp=2))


@pytest.mark.parametrize("engine", ["native", "deepspeed"])
def test_another_zero_stage_is_another_layout(engine: str) -> None:
    check(written(run(engine, dp=2, zeroStage=3)), run(engine, dp=2, zeroStage=0))


def test_a_checkpoint_that_says_no_format_is_native() -> None:
    check(Meta(step=3), run(dp=2))


def test_megatron_keeps_its_kind_of_optimizer_and_without_sharing_its_experts() -> None:
    check(written(run("megatron", pp=2, dp=2, ep=2)), run("megatron", tp=2))
    check(written(run("megatron", pp=2, zeroStage=0)), run("megatron", dp=2, zeroStage=0))
    with pytest.raises(ResumeError, match=r"step 200 cannot be loaded with zeroStage 1 to 0: .*checkpoint\.resume: none"):
        check(written(run("megatron")), run("megatron", zeroStage=0))
    with pytest.raises(ResumeError, match="with expert 2 to 1"):
        check(written(run("megatron", dp=2, ep=2, zeroStage=0)), run("megatron", dp=2, zeroStage=0))


@pytest.mark.parametrize(("writer", "reader"), [("native", "deepspeed"), ("deepspeed", "native"), ("deepspeed", "megatron")])
def test_another_engines_files_are_refused_by_both_names(writer: str, reader: str) -> None:
    with pytest.raises(ResumeError, match=f"written by engine {writer}, and engine {reader} cannot read"):
        check(written(run(writer)), run(reader))
