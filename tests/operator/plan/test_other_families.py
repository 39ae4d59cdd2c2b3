"""Families that engine accelerate alone trains: planned without a claim on memory, refused elsewhere with a way out that works."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.cli.plan_table import render_plan
from llmtrain_operator.manifest.problem import PlanError, Problem
from llmtrain_operator.plan.model.families import shape_of
from llmtrain_operator.plan.plan import Plan, plan
from llmtrain_operator.plan.plan_dict import plan_dict
from llmtrain_operator.plan.trainer_config import trainer_config
from llmtrain_trainer.config.tables import other_families
from llmtrain_trainer.config.tables.families import FAMILIES
from llmtrain_trainer.config.tables.other_families import OTHER_FAMILIES, OtherFamily

KIND = "opt"
CONFIG = {"model_type": KIND, "vocab_size": 50272, "hidden_size": 768}
Job = Callable[..., LLMTrainJob]


@pytest.fixture
def planned(job: Job) -> Callable[..., Plan]:
    """The plan of a model of another family."""

    def make(config: dict[str, Any] = CONFIG, engine: str = "accelerate", **sections: Any) -> Plan:
        parallelism = {"engine": engine} | sections.pop("parallelism", {})
        return plan(job(model={"config": config}, parallelism=parallelism, **sections), shape_of(config))

    return make


def refused(planned: Callable[..., Plan], **sections: Any) -> Problem:
    with pytest.raises(PlanError) as found:
        planned(**sections)
    (problem,) = found.value.problems
    return problem


def test_it_is_planned_without_claims_that_nobody_can_make(planned: Callable[..., Plan]) -> None:
    found = planned()
    config = trainer_config(found.job, found, 1)
    assert (config.engine, config.mesh.dp, config.estimate.parameters, config.estimate.memory_bytes_per_rank) == (
        "accelerate",
        8,
        None,
        None,
    )
    assert found.memory is found.throughput is found.shape is None
    assert found.advice[0].startswith(
        f"The sizes of model_type {KIND} are known to transformers alone: memory and speed are not estimated."
    )
    assert plan_dict(found)["model"] == {"type": KIND, "layers": None, "parameters": None, "trainableParameters": None}


def test_the_table_of_a_plan_says_why_nothing_is_estimated(planned: Callable[..., Plan]) -> None:
    shown = Console(width=160, record=True, file=io.StringIO())
    shown.print(render_plan(planned()))
    text = shown.export_text()
    assert "opt, sizes not known to the plan" in text and "Not estimated: its sizes are known to transformers alone." in text


@pytest.mark.parametrize("engine", ["native", "deepspeed", "megatron"])
def test_another_engine_is_refused_and_the_way_out_is_planned(planned: Callable[..., Plan], engine: str) -> None:
    with pytest.raises(PlanError) as found:
        planned(engine=engine)
    problem = next(each for each in found.value.problems if each.field == "spec.model")
    assert (problem.rule, problem.way_out) == (f"its model_type is {KIND}, which engine accelerate alone trains", "Use engine accelerate")
    assert planned(engine="accelerate")


def test_auto_takes_the_engine_that_trains_it_and_says_why(planned: Callable[..., Plan]) -> None:
    found = planned(engine="auto")
    assert found.engine == "accelerate" and found.engine_reason and "native is refused (spec.model is opt" in found.engine_reason


def test_auto_layout_compares_nothing_and_says_so(planned: Callable[..., Plan]) -> None:
    found = planned(parallelism={"auto": True})
    assert found.why == ("The model's shape is unknown, so auto leaves every absent degree at 1.",)


@pytest.mark.parametrize(
    ("missing", "sections", "field", "mended"),
    [
        (OtherFamily(packs=False), {"task": "sft"}, "training.packing", {"task": "sft", "training": {"packing": False}}),
        (OtherFamily(adapters=False), {"peft": {"method": "lora"}}, "peft.method", {}),
        (OtherFamily(recomputes=False), {"training": {"activationCheckpointing": "full"}}, "training.activationCheckpointing", {}),
    ],
    ids=["packed", "adapted", "recomputed"],
)
def test_what_was_not_shown_is_refused(
    planned: Callable[..., Plan],
    monkeypatch: pytest.MonkeyPatch,
    missing: OtherFamily,
    sections: dict[str, Any],
    field: str,
    mended: dict[str, Any],
) -> None:
    monkeypatch.setitem(other_families.OTHER_FAMILIES, KIND, OtherFamily())  # type: ignore[arg-type]
    assert planned(**sections), "of a family that has it"
    monkeypatch.setitem(other_families.OTHER_FAMILIES, KIND, missing)  # type: ignore[arg-type]
    assert refused(planned, **sections).field == f"spec.{field}"
    assert planned(**mended)


def test_flash_attention_is_refused(planned: Callable[..., Plan], job: Job) -> None:
    made = job(model={"config": CONFIG, "attention": "flash"}, parallelism={"engine": "accelerate"})
    with pytest.raises(PlanError, match="flash attention of model_type opt was never shown to be right"):
        plan(made, shape_of(CONFIG))


def test_a_router_loss_that_would_be_left_out_is_refused(planned: Callable[..., Plan]) -> None:
    asked = CONFIG | {"output_router_logits": True}
    assert refused(planned, config=asked).rule == "engine accelerate has no router loss for model_type opt"
    assert planned(config=CONFIG | {"output_router_logits": False})


def test_a_vocabulary_of_a_wrong_size_is_refused() -> None:
    with pytest.raises(PlanError, match=r"spec\.model\.config\.vocab_size is -3: it must be a positive integer"):
        shape_of(CONFIG | {"vocab_size": -3})


def test_each_is_a_decoder_that_transformers_has_and_no_row_of_families() -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    assert set(OTHER_FAMILIES) <= set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) - set(FAMILIES)


def test_each_has_the_kernel_that_transformers_has() -> None:
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING

    has = {name: MODEL_FOR_CAUSAL_LM_MAPPING[CONFIG_MAPPING[name]]._supports_sdpa for name in OTHER_FAMILIES}
    assert has == {name: other.sdpa for name, other in OTHER_FAMILIES.items()}
