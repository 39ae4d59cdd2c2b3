"""Which checkpoints a run can load: any layout's of its own format where the format knows none, else its own layout's."""

from __future__ import annotations

from typing import Any

import pytest

from llmtrain_trainer.checkpoint.errors import ResumeError
from llmtrain_trainer.checkpoint.fit import conversion
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


def test_dcp_goes_from_any_layout_to_any_other() -> None:
    assert conversion(written(run(pp=2, dp=2)), run(tp=4, zeroStage=3)) is None


def test_a_checkpoint_that_says_no_format_is_native() -> None:
    assert conversion(Meta(step=3), run(dp=2)) is None


@pytest.mark.parametrize("engine", ["deepspeed", "megatron"])
def test_files_of_an_engine_load_in_the_layout_that_wrote_them(engine: str) -> None:
    assert conversion(written(run(engine, pp=2, tp=2)), run(engine, pp=2, tp=2)) is None


def test_a_change_that_cannot_be_converted_is_named_with_the_way_out() -> None:
    with pytest.raises(ResumeError, match=r"step 200 cannot be loaded with pipeline 2 to 1, tensor 1 to 2: .*checkpoint\.resume: none"):
        conversion(written(run("deepspeed", pp=2)), run("deepspeed", tp=2))


@pytest.mark.parametrize("zero", [1, 2, 3])
def test_deepspeed_goes_to_another_number_of_replicas_by_the_universal_format(zero: int) -> None:
    assert conversion(written(run("deepspeed", dp=2, zeroStage=zero)), run("deepspeed", dp=4, zeroStage=zero)) == "universal"


def test_without_zero_every_replica_has_the_same_files() -> None:
    assert conversion(written(run("deepspeed", pp=2, dp=2, zeroStage=0)), run("deepspeed", pp=2, zeroStage=0)) is None


@pytest.mark.parametrize(
    ("mesh", "says"),
    [({"pp": 2}, "does not know our stages"), ({"tp": 2, "zeroStage": 3}, "ZeRO-3 over shards")],
)
def test_other_layouts_of_deepspeed_keep_their_number_of_replicas(mesh: dict[str, int], says: str) -> None:
    with pytest.raises(ResumeError, match=f"data 2 to 1: .*{says}"):
        conversion(written(run("deepspeed", dp=2, **mesh)), run("deepspeed", **mesh))


def test_megatron_reads_its_files_in_other_layouts() -> None:
    assert conversion(written(run("megatron", pp=2, dp=2, ep=2)), run("megatron", tp=2)) is None
    assert conversion(written(run("megatron", pp=2, zeroStage=0)), run("megatron", dp=2, zeroStage=0)) is None


def test_megatron_keeps_its_kind_of_optimizer_and_without_sharing_its_experts() -> None:
    with pytest.raises(ResumeError, match="with zeroStage 1 to 0"):
        conversion(written(run("megatron")), run("megatron", zeroStage=0))
    with pytest.raises(ResumeError, match="with expert 2 to 1"):
        conversion(written(run("megatron", dp=2, ep=2, zeroStage=0)), run("megatron", dp=2, zeroStage=0))


def test_other_layers_in_the_same_number_of_stages_are_another_layout() -> None:
    with pytest.raises(ResumeError, match="pipeline 2 to 2"):
        conversion(written(run("deepspeed", pp=2, stages=[(0, 1), (1, 4)])), run("deepspeed", pp=2))


@pytest.mark.parametrize(("writer", "reader"), [("native", "deepspeed"), ("deepspeed", "native"), ("deepspeed", "megatron")])
def test_another_engines_files_are_refused_by_both_names(writer: str, reader: str) -> None:
    with pytest.raises(ResumeError, match=f"written by engine {writer}, and engine {reader} cannot read"):
        conversion(written(run(writer)), run(reader))
