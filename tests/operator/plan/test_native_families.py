"""Families that only engine native trains: what the plan refuses and tells of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llmtrain_operator.manifest.problem import PlanError
from llmtrain_operator.plan.model.families import shape_of
from llmtrain_operator.plan.plan import Plan, plan


def small(family: str, **more: Any) -> dict[str, Any]:
    sizes = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 8}
    return {"model_type": family, "intermediate_size": 128, "vocab_size": 512, "head_dim": 16} | sizes | more


def planned_with(job: Callable[..., Any], config: dict[str, Any], **parallelism: Any) -> Plan:
    return plan(job("gemma-2-2b", model={"config": config}, parallelism=parallelism), shape_of(config))


@pytest.mark.parametrize("engine", ["deepspeed", "megatron"])
def test_other_engines_refuse_the_family_by_its_name(job: Callable[..., Any], engine: str) -> None:
    with pytest.raises(PlanError, match=f"spec.model is granite: its model_type is granite, and engine {engine} supports llama, "):
        planned_with(job, small("granite"), engine=engine)


def test_auto_chooses_native(job: Callable[..., Any]) -> None:
    assert planned_with(job, small("granite"), engine="auto").engine == "native"


def test_capped_scores_run_eagerly_which_is_told_and_counted(job: Callable[..., Any]) -> None:
    capped, plain = (planned_with(job, small(family)) for family in ("gemma2", "gemma3_text"))
    assert any("Attention runs in the eager kernel" in line for line in capped.advice)
    assert not any("eager kernel" in line for line in plain.advice)
    assert capped.memory and plain.memory and capped.memory.peak > plain.memory.peak


def test_layouts_that_parity_does_not_show_are_refused(job: Callable[..., Any]) -> None:
    with pytest.raises(
        PlanError, match=r"spec.parallelism.context is 2: a gemma2 trains with tensor, pipeline and data .* Leave context out"
    ):
        planned_with(job, small("gemma2"), context=2)
    mixture = small("olmoe", num_experts=4, num_experts_per_tok=2)
    with pytest.raises(PlanError, match=r"spec.parallelism.expert is 2: a olmoe trains with tensor, pipeline and data .* Leave expert out"):
        planned_with(job, mixture, expert=2)


def test_norms_of_single_heads_are_not_split(job: Callable[..., Any]) -> None:
    assert planned_with(job, small("cohere"), tensor=2).mesh.tp == 2
    with pytest.raises(PlanError, match="use_qk_norm is true, and the norms of queries and keys of a cohere are not split"):
        planned_with(job, small("cohere", use_qk_norm=True), tensor=2)
    assert planned_with(job, small("stablelm", qk_layernorm=True), tensor=2).mesh.tp == 2


@pytest.mark.parametrize(("family", "flag"), [("gemma3_text", "use_bidirectional_attention"), ("phi", "qk_layernorm")])
def test_a_flag_that_the_family_has_and_no_engine_trains_is_refused(family: str, flag: str) -> None:
    with pytest.raises(PlanError, match=f"spec.model.config.{flag} is true: .*Use a model without it"):
        shape_of(small(family, **{flag: True}))


def test_whole_activations_of_split_matrices_cost_memory(job: Callable[..., Any]) -> None:
    alone, split = (planned_with(job, small(family, num_key_value_heads=8), tensor=2).memory for family in ("olmo2", "exaone4"))
    assert alone and split and alone.peak > split.peak
