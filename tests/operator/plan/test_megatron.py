"""What the plan refuses of engine megatron beyond the manifests of bad/, and what it lets pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llmtrain_operator.manifest.problem import PlanError
from llmtrain_operator.plan.model.families import shape_of
from llmtrain_operator.plan.plan import Plan, plan

MEGATRON: dict[str, Any] = {"parallelism": {"engine": "megatron", "tensor": 2}}


@pytest.mark.parametrize("name", ["llama-3-8b", "mistral-7b", "qwen2.5-7b", "qwen3-8b", "mixtral-8x7b", "qwen3-30b-a3b"])
def test_every_family_with_a_table_of_names_is_planned_with_a_shared_out_optimizer(planned: Callable[..., Plan], name: str) -> None:
    found = planned(name, **MEGATRON)
    assert (found.engine, found.mesh.zero_stage, found.mesh.tp) == ("megatron", 1, 2)


def test_experts_and_sequences_are_cut(planned: Callable[..., Plan]) -> None:
    found = planned("mixtral-8x7b", parallelism={"engine": "megatron", "tensor": 2, "context": 2, "expert": 4})
    assert (found.mesh.cp, found.mesh.ep, found.mesh.dp) == (2, 4, 2)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("gemma-2b", {}, "spec.model is gemma: its model_type is gemma, and engine megatron supports"),
    ("qwen1.5-moe-a2.7b", {}, "its model_type is qwen2_moe"),
    ("llama-3-8b", {"training": {"compile": True}}, "spec.training.compile is true"),
    ("llama-3-8b", {"model": {"attention": "flash"}}, "spec.model.attention is flash: engine megatron uses the attention kernel"),
]


@pytest.mark.parametrize(("name", "sections", "message"), REFUSED)
def test_the_rest_is_refused_in_the_plan(job: Callable[..., Any], name: str, sections: dict[str, Any], message: str) -> None:
    given = job(name, **MEGATRON)
    shape = shape_of(given.spec.model.config)
    model = {"config": given.spec.model.config, **sections.get("model", {})}
    with pytest.raises(PlanError) as caught:
        plan(job(name, **(MEGATRON | sections | {"model": model})), shape)
    assert any(message in str(problem) for problem in caught.value.problems)


def test_a_bias_in_attention_alone_is_refused(job: Callable[..., Any]) -> None:
    config = job("llama-3-8b").spec.model.config | {"attention_bias": True}
    with pytest.raises(PlanError, match="Megatron has biases in all linear layers or in none"):
        plan(job("llama-3-8b", **MEGATRON, model={"config": config}), shape_of(config))


def test_a_mixture_with_dense_layers_and_experts_that_do_not_split_are_refused(job: Callable[..., Any]) -> None:
    given = job("qwen3-30b-a3b", **MEGATRON)
    config = given.spec.model.config | {"mlp_only_layers": [0], "moe_intermediate_size": 769}
    with pytest.raises(PlanError) as caught:
        plan(job("qwen3-30b-a3b", **MEGATRON, model={"config": config}), shape_of(config))
    said = " ".join(map(str, caught.value.problems))
    assert "1 dense layers in an MoE model" in said
    assert "it must divide the feed-forward width of an expert (769)" in said
