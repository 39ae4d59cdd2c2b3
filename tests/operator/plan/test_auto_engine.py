"""engine: auto, as a table of jobs: which engine is picked, and the sentence that says why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llmtrain_operator.life.status import plan_summary
from llmtrain_operator.manifest.edit import edited
from llmtrain_operator.manifest.problem import PlanError
from llmtrain_operator.plan.engines.registry import ENGINES
from llmtrain_operator.plan.model.families import shape_of
from llmtrain_operator.plan.plan import Plan, plan
from llmtrain_trainer.config import Offload

Planned = Callable[..., Plan]


def gpus(nodes: int, each: int = 8, product: str = "H100-80GB", **more: Any) -> dict[str, Any]:
    return {"resources": {"nodes": nodes, "gpusPerNode": each, "gpu": product, **more}}


def auto(**more: Any) -> dict[str, Any]:
    return {"parallelism": {"engine": "auto", **more}}


LAID_OUT = auto(auto=True)
LORA = {"peft": {"method": "lora"}}

CASES: list[tuple[str, str, dict[str, Any], str, str]] = [
    ("laptop", "llama-3.2-1b", auto() | {"resources": {"procsPerNode": 2}}, "native", "it runs on CPU processes"),
    ("one GPU, LoRA", "llama-3-8b", auto() | gpus(1, 1) | LORA, "native", "lora trains few parameters"),
    ("32 GPUs, LoRA of 70B", "llama-3-70b", LAID_OUT | gpus(4) | LORA, "native", "lora trains few parameters"),
    ("8 GPUs, 7B", "qwen2.5-7b", LAID_OUT | gpus(1), "native", "7.62B parameters on 8 GPUs need no other"),
    ("degrees given", "llama-3-8b", auto(tensor=2, pipeline=2) | gpus(1), "native", "8.03B parameters on 8 GPUs"),
    ("32 GPUs, 70B", "llama-3-70b", LAID_OUT | gpus(4), "megatron", "full training of 70.6B parameters on 32 linked GPUs gains most"),
    ("16 GPUs, mixture", "mixtral-8x7b", LAID_OUT | gpus(2), "megatron", "full training of 46.7B parameters on 16 linked GPUs gains most"),
    ("70B, no table of names", "qwen2.5-72b", LAID_OUT | gpus(4) | {"training": {"compile": True}}, "native", "megatron is refused"),
    ("70B, no fast link", "llama-3-70b", LAID_OUT | gpus(16, 8, "H100-PCIe"), "native", "70.6B parameters on 128 GPUs"),
    ("shares the optimizer", "llama-3-8b", auto(zeroStage=1) | gpus(1, 8, "H200-141GB"), "deepspeed", "native is refused (spec.par"),
    ("shares gradients too", "llama-3-8b", auto(zeroStage=2) | gpus(1), "deepspeed", "zeroStage is 2: engine native shards weights"),
    (
        "offload asked for",
        "llama-3-8b",
        auto(zeroStage=3, offload={"optimizer": "cpu"}),
        "deepspeed",
        "no other engine reads spec.parallelism.off",
    ),
    ("raw keys", "llama-3-8b", auto(deepspeed={"steps_per_print": 7}), "deepspeed", "no other engine reads spec.parallelism.deepspeed"),
    (
        "one GPU, 7B in full",
        "qwen2.5-7b",
        auto() | gpus(1, 1, memory="256Gi"),
        "deepspeed",
        "with the optimizer in host memory: native needs",
    ),
    ("a sequence to cut", "llama-3-8b", auto(context=4) | gpus(1), "native", "8.03B parameters on 8 GPUs"),
]


@pytest.mark.parametrize(("name", "model", "sections", "engine", "words"), CASES, ids=[case[0] for case in CASES])
def test_the_engine_picked_and_why(planned: Planned, name: str, model: str, sections: dict[str, Any], engine: str, words: str) -> None:
    found = planned(model, **sections)
    assert found.engine == engine, name
    assert words in found.why[0] and found.engine_reason == found.why[0]
    assert found.why[0].startswith(f"Engine {engine}")
    assert plan_summary(found).engine_reason == found.why[0]


@pytest.mark.parametrize(("name", "model", "sections", "engine", "words"), CASES, ids=[case[0] for case in CASES])
def test_writing_the_engine_down_changes_nothing(
    planned: Planned, name: str, model: str, sections: dict[str, Any], engine: str, words: str
) -> None:
    found = planned(model, **sections)
    again = plan(found.job, found.shape)
    assert (again.engine, again.mesh, again.memory, again.engine_reason) == (engine, found.mesh, found.memory, None), (name, words)


def test_an_engine_that_is_named_is_kept_and_needs_no_reason(planned: Planned) -> None:
    found = planned("llama-3-70b", parallelism={"engine": "native", "auto": True}, **gpus(4))
    assert found.engine == "native" and found.engine_reason is None
    assert not any(sentence.startswith("Engine ") for sentence in found.why)


def test_host_memory_is_used_only_where_the_manifest_names_enough_of_it(planned: Planned) -> None:
    for resources in (gpus(1, 1), gpus(1, 1, memory="64Gi")):
        found = planned("qwen2.5-7b", **auto(), **resources)
        assert found.engine == "native" and not found.fits
        assert "no engine can train this" in found.why[0]


def test_a_job_that_no_engine_trains_is_refused_by_the_first(job: Callable[..., Any]) -> None:
    given = job("t5-small", parallelism={"engine": "auto"})
    with pytest.raises(PlanError, match=r"spec\.model\.config\.model_type is t5"):
        plan(given, shape_of(given.spec.model.config))


def test_without_a_shape_native_is_taken(job: Callable[..., Any]) -> None:
    found = plan(job(model={"source": "pvc://models/llama"}, tokenizer=None, parallelism={"engine": "auto"}), None)
    assert found.engine == "native" and "unknown yet" in found.why[0]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("model", ["llama-3-8b", "mixtral-8x7b", "llama-3-70b"])
def test_what_would_fit_is_valid_and_fits_with_every_engine(planned: Planned, engine: str, model: str) -> None:
    found = planned(
        model, parallelism={"engine": engine}, **gpus(2, 8, "A100-40GB"), training={"globalBatchSize": 64, "sequenceLength": 4096}
    )
    assert not found.fits and found.alternatives
    for other in found.alternatives:
        changes = {path: Offload.model_validate(value) if path.endswith("offload") else value for path, value in other.changes}
        again = plan(edited(found.job, changes), found.shape)
        assert again.fits and again.memory and again.memory.peak == other.peak_bytes
