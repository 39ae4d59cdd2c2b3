"""Engine accelerate in the plan: replicas alone, and what a rank of them holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llmtrain_operator.manifest.problem import PlanError
from llmtrain_operator.plan.plan import Plan
from llmtrain_operator.plan.trainer_config import trainer_config

Planned = Callable[..., Plan]
MODEL = "qwen2.5-0.5b"


def accelerate(**more: Any) -> dict[str, Any]:
    return {"parallelism": {"engine": "accelerate"} | more}


def test_replicas_are_planned_and_told_to_the_trainer(planned: Planned) -> None:
    found = planned(MODEL, **accelerate())
    config = trainer_config(found.job, found, 1)
    assert (config.engine, config.mesh.dp, config.mesh.zero_stage, len(config.mesh.stages)) == ("accelerate", 8, 3, 1)


@pytest.mark.parametrize(
    ("field", "given", "way_out"),
    [
        ("tensor", {"tensor": 2}, "Leave tensor out, or use engine native"),
        ("pipeline", {"pipeline": 2}, "Leave pipeline out, or use engine native"),
        ("context", {"context": 2}, "Leave context out, or use engine native"),
        ("zeroStage", {"zeroStage": 1}, "Use 2 or 3 to shard, or 0 to replicate"),
    ],
)
def test_what_cuts_a_model_is_refused_with_a_way_out_that_is_planned(
    planned: Planned, field: str, given: dict[str, int], way_out: str
) -> None:
    with pytest.raises(PlanError) as refused:
        planned(MODEL, **accelerate(**given))
    (problem,) = [each for each in refused.value.problems if each.field == f"spec.parallelism.{field}"]
    assert problem.way_out == way_out
    if field == "zeroStage":
        assert all(planned(MODEL, **accelerate(zeroStage=stage)).fits for stage in (0, 2, 3))
    else:
        assert planned(MODEL, parallelism={"engine": "native"} | given)


def test_experts_over_ranks_are_refused(planned: Planned) -> None:
    with pytest.raises(PlanError, match="trains whole models as replicas"):
        planned("mixtral-8x7b", **accelerate(expert=2))


def test_compiled_layers_are_refused(planned: Planned) -> None:
    with pytest.raises(PlanError, match="compiles no layers"):
        planned(MODEL, **accelerate(), training={"compile": True})


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_shards_are_counted_as_native_counts_them(planned: Planned, precision: str) -> None:
    mine, natives = (
        planned(MODEL, parallelism={"engine": engine}, training={"precision": precision}) for engine in ("accelerate", "native")
    )
    assert mine.memory and natives.memory
    assert mine.memory.terms == natives.memory.terms


def test_whole_replicas_hold_everything_and_buckets_of_gradients(planned: Planned, term: Callable[[Plan, str], int]) -> None:
    found = planned(MODEL, **accelerate(zeroStage=0), training={"precision": "fp32"})
    assert found.shape
    parameters = found.shape.parameters
    assert (term(found, "weights"), term(found, "gradients"), term(found, "optimizer")) == (4 * parameters, 4 * parameters, 8 * parameters)


def test_autocast_keeps_casts_and_fp32_activations(planned: Planned, term: Callable[[Plan, str], int]) -> None:
    whole = {"zeroStage": 0}
    fp32, bf16 = (planned(MODEL, **accelerate(**whole), training={"precision": precision}) for precision in ("fp32", "bf16"))
    assert bf16.shape
    assert term(bf16, "cast weights") == 2 * bf16.shape.parameters and term(fp32, "cast weights") == 0
    assert term(bf16, "activations") == term(fp32, "activations")


def test_weights_that_stay_gathered_are_counted(planned: Planned, term: Callable[[Plan, str], int]) -> None:
    two, three = (planned(MODEL, **accelerate(zeroStage=stage), training={"precision": "bf16"}) for stage in (2, 3))
    assert two.shape
    assert term(two, "gathered weights") == 2 * two.shape.parameters
    assert term(two, "weights") == term(three, "weights") and two.memory and three.memory and two.memory.peak > three.memory.peak


def test_frozen_weights_are_kept_as_layers_compute_and_gathered_by_layer(planned: Planned, term: Callable[[Plan, str], int]) -> None:
    one = {"resources": {"nodes": 1, "gpusPerNode": 1, "gpu": "H100-80GB"}, "peft": {"method": "lora", "rank": 8}}
    fsdp, ddp = (planned(MODEL, **accelerate(zeroStage=stage), **one, training={"precision": "bf16"}) for stage in (3, 0))
    assert fsdp.shape and fsdp.trainable
    assert term(fsdp, "base weights") == term(ddp, "base weights") == 2 * fsdp.shape.parameters
    assert term(fsdp, "gathered layers") > 2 * fsdp.shape.embedding_parameters
    assert term(ddp, "cast weights") == 2 * fsdp.trainable


def test_an_adapter_is_planned_with_each_method_of_native(planned: Planned) -> None:
    for method in ("lora", "rslora", "dora"):
        found = planned(MODEL, **accelerate(), peft={"method": method, "rank": 8, "learningRateRatio": 4})
        assert found.engine == "accelerate" and found.trainable and found.trainable < 20e6
