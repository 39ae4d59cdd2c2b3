"""auto and alternatives: what is chosen is valid, fits, and is explained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.manifest.edit import edited
from llmtrain_operator.manifest.problem import PlanError, Problem
from llmtrain_operator.plan.layout.hardware import PRODUCTS, Gpu, find_gpu
from llmtrain_operator.plan.model.families import shape_of
from llmtrain_operator.plan.plan import Plan, plan
from llmtrain_operator.plan.search.auto_layout import choose, relative_cost
from llmtrain_operator.plan.search.candidate import FeasibleLayout, try_lay_out

Planned = Callable[..., Plan]
Job = Callable[..., LLMTrainJob]
AUTO = {"auto": True}


def test_a_small_model_is_trained_without_model_parallelism(planned: Planned) -> None:
    found = planned("qwen2.5-0.5b", parallelism=AUTO)
    assert (found.mesh.tp, found.mesh.pp, found.mesh.dp) == (1, 1, 8)
    assert found.fits and not found.recompute


@pytest.mark.parametrize(
    ("name", "nodes", "batch", "length", "cut"),
    [
        ("qwen2.5-0.5b", 8, 64, 2048, {1}),  # small models everywhere: data parallel only
        ("qwen2.5-7b", 8, 128, 8192, {1}),  # torchtitan's and Hugging Face's runs at 7B and 8B: FSDP alone
        ("llama-3-8b", 16, 512, 8192, {1}),
        ("llama-3-70b", 8, 128, 8192, {1, 2, 4, 8}),  # FSDP with recomputation, or tensor parallelism inside a node beside it
        ("llama-3.1-405b", 64, 512, 8192, {4, 8}),  # Llama Team 2024, table 4: tensor parallelism over the whole node
    ],
)
def test_the_tensor_degree_is_that_of_published_runs(
    planned: Planned, name: str, nodes: int, batch: int, length: int, cut: set[int]
) -> None:
    resources = {"nodes": nodes, "gpusPerNode": 8, "gpu": "H100-80GB"}
    found = planned(name, parallelism=AUTO, resources=resources, training={"globalBatchSize": batch, "sequenceLength": length})
    assert found.fits and found.mesh.tp in cut
    assert not any("1.00 times as long" in line for line in found.why)


def test_a_large_model_is_cut(planned: Planned) -> None:
    resources = {"nodes": 16, "gpusPerNode": 8, "gpu": "H100-80GB"}
    found = planned("llama-3-70b", parallelism=AUTO, resources=resources, training={"globalBatchSize": 256, "sequenceLength": 8192})
    assert found.fits
    assert found.mesh.tp * found.mesh.pp > 1 or found.recompute


def test_a_batch_smaller_than_the_devices_forces_model_parallelism(planned: Planned) -> None:
    found = planned("qwen2.5-7b", parallelism=AUTO, training={"globalBatchSize": 4})
    assert found.mesh.dp <= 4 and found.mesh.tp * found.mesh.pp >= 2


def test_given_degrees_are_kept(planned: Planned) -> None:
    found = planned(parallelism=AUTO | {"tensor": 2, "pipeline": 2})
    assert (found.mesh.tp, found.mesh.pp, found.mesh.dp) == (2, 2, 2)


def test_a_given_data_degree_is_kept(planned: Planned) -> None:
    assert planned(parallelism=AUTO | {"data": 2}).mesh.dp == 2


def test_auto_says_why(planned: Planned) -> None:
    why = planned(
        "llama-3-70b", parallelism=AUTO, resources={"nodes": 16, "gpusPerNode": 8, "gpu": "H100-80GB"}, training={"globalBatchSize": 256}
    ).why
    assert why[0].startswith("Of ") and "fit" in why[0]
    assert [line.split(" ")[0] for line in why[1:3]] == ["tensor", "pipeline"]
    assert any("ecomputation" in line for line in why) and any("microBatchSize" in line for line in why)


def test_auto_without_a_shape_leaves_the_degrees_alone(job: Job) -> None:
    found = plan(job(model={"source": "pvc://models/llama"}, tokenizer=None, parallelism=AUTO), None)
    assert (found.mesh.tp, found.mesh.pp) == (1, 1)
    assert "unknown yet" in found.why[0]


def test_auto_with_no_valid_layout_is_refused_like_any_other(job: Job) -> None:
    wanted = job(parallelism=AUTO | {"tensor": 8, "pipeline": 8})
    with pytest.raises(PlanError, match=r"spec\.parallelism"):
        plan(wanted, shape_of(wanted.spec.model.config or {}))


@settings(max_examples=15, deadline=None)
@given(
    model=st.sampled_from(["qwen2.5-0.5b", "llama-3-8b", "gpt2", "qwen3-8b"]),
    nodes=st.sampled_from([1, 2, 4]),
    batch=st.sampled_from([8, 48, 64, 96]),
    gpu=st.sampled_from(["H100-80GB", "L4", "B200", "A100-40GB"]),
)
def test_the_choice_is_the_cheapest_of_those_that_fit(model: str, nodes: int, batch: int, gpu: str) -> None:
    import json
    from pathlib import Path

    from llmtrain_operator.manifest.parse import parse_manifest

    config = json.loads((Path(__file__).parents[1] / "shapes" / f"{model}.json").read_text())
    spec = {
        "model": {"config": config},
        "tokenizer": {"source": "file:///t"},
        "dataset": [{"source": "file:///d"}],
        "parallelism": AUTO,
        "training": {"globalBatchSize": batch, "sequenceLength": 1024, "maxSteps": 10},
        "resources": {"nodes": nodes, "gpusPerNode": 8, "gpu": gpu},
    }
    job = parse_manifest(
        json.dumps({"apiVersion": "llmtrain.io/v1alpha1", "kind": "LLMTrainJob", "metadata": {"name": "job"}, "spec": spec})
    )
    shape, product = shape_of(config), find_gpu(gpu)
    assert isinstance(product, Gpu)
    chosen, _ = choose(job, shape, product)
    best = try_lay_out(chosen, shape, product)
    if not isinstance(best, FeasibleLayout) or not best.fits:
        return
    for tensor in (1, 2, 4, 8):
        for recompute in ("none", "full"):
            changes = {"spec.parallelism.tensor": tensor, "spec.training.activationCheckpointing": recompute}
            other = try_lay_out(edited(chosen, changes), shape, product)
            if isinstance(other, FeasibleLayout) and other.fits:
                assert relative_cost(best) <= relative_cost(other) + 0.01


def does_not_fit(planned: Planned, **sections: Any) -> Plan:
    found = planned(resources={"nodes": 1, "gpusPerNode": 8, "gpu": "A100-40GB"}, **sections)
    assert not found.fits
    return found


def test_alternatives_are_at_most_three_and_each_fits_when_planned_again(planned: Planned, job: Job) -> None:
    sections: dict[str, Any] = {"training": {"sequenceLength": 8192, "microBatchSize": 2}}
    found = does_not_fit(planned, **sections)
    assert 1 <= len(found.alternatives) <= 3
    for other in found.alternatives:
        again = plan(edited(found.job, dict(other.changes)), found.shape)
        assert again.fits and again.memory
        assert again.memory.peak == other.peak_bytes


def test_lora_is_an_alternative_where_there_are_weights_to_adapt(planned: Planned) -> None:
    one = {"nodes": 1, "gpusPerNode": 1, "gpu": "L4"}
    source = {"model": {"source": "hf://meta/llama"}, "tokenizer": None}
    pretrained = planned("llama-3.2-1b", resources=one, training={"sequenceLength": 512}, **source)
    scratch = planned("llama-3.2-1b", resources=one, training={"sequenceLength": 512})
    assert not pretrained.fits and pretrained.alternatives[0].changes[0][0] == "spec.peft"
    assert not any(path == "spec.peft" for other in scratch.alternatives for path, _ in other.changes)


def test_a_model_that_fits_nowhere_has_no_alternative_on_these_devices(planned: Planned) -> None:
    one = {"nodes": 1, "gpusPerNode": 1, "gpu": "L4"}
    found = planned("llama-3.1-405b", resources=one, training={"globalBatchSize": 1})
    assert not found.fits and found.alternatives == ()


def test_editing_changes_that_field_alone(job: Job) -> None:
    before = job()
    after = edited(before, {"spec.parallelism.tensor": 2, "spec.training.microBatchSize": 4})
    assert (after.spec.parallelism.tensor, after.spec.training.micro_batch_size) == (2, 4)
    assert (before.spec.parallelism.tensor, before.spec.training.micro_batch_size) == (None, 1)
    assert after.spec.model == before.spec.model


@pytest.mark.parametrize(
    ("name", "product"),
    [
        ("H100-80GB", "H100-80GB"),
        ("h100", "H100-80GB"),
        ("NVIDIA-H100-80GB-HBM3", "H100-80GB"),
        ("NVIDIA-A100-SXM4-40GB", "A100-40GB"),
        ("Tesla-T4", "T4"),
        ("NVIDIA-GeForce-RTX-4090", "RTX-4090"),
    ],
)
def test_a_gpu_is_found_under_the_names_nodes_give_it(name: str, product: str) -> None:
    found = find_gpu(name)
    assert isinstance(found, Gpu) and found.name == product


@pytest.mark.parametrize(("name", "suggested"), [("H100-800GB", "H100-80GB"), ("A100", "A100-40GB, A100-80GB"), ("L40X", "L40")])
def test_an_unknown_gpu_is_answered_with_the_nearest(name: str, suggested: str) -> None:
    found = find_gpu(name)
    assert isinstance(found, Problem) and suggested in found.way_out


def test_every_product_is_named_once_and_has_sane_numbers() -> None:
    assert len({gpu.name for gpu in PRODUCTS}) == len(PRODUCTS)
    for gpu in PRODUCTS:
        assert 10 * 2**30 < gpu.memory_bytes < 400 * 2**30
        assert gpu.bf16_flops is None or gpu.fp32_flops < gpu.bf16_flops < 5e15


@pytest.mark.parametrize(("targets", "share"), [(["all-linear"], "97%"), (["q_proj"], "99%")])
def test_what_an_adapter_leaves_frozen_in_a_mixture_is_told(planned: Planned, targets: list[str], share: str) -> None:
    found = planned(
        "mixtral-8x7b", task="sft", peft={"targetModules": targets}, resources={"nodes": 4, "gpusPerNode": 8, "gpu": "H100-80GB"}
    )
    assert any(f"the router and the experts, {share} of a layer, stay frozen" in line for line in found.advice)


def test_dense_layers_that_peft_takes_for_experts_are_told_and_refused_by_name(job: Callable[..., LLMTrainJob]) -> None:
    """peft would put adapters on the experts instead, whatever layers the names are of."""
    config = {"model_type": "qwen3_moe", "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "mlp_only_layers": [0]}
    sizes = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 512}
    shape = shape_of(config | sizes | {"intermediate_size": 128, "head_dim": 16})
    given: dict[str, Any] = {"task": "sft", "model": {"source": "hf://a/b"}, "peft": {"targetModules": ["all-linear"]}}
    (line,) = (line for line in plan(job(**given), shape).advice if "stay frozen" in line)
    assert line.startswith("Adapters are on q_proj, k_proj, v_proj and o_proj;")
    assert line.endswith(" The feed-forward matrices of the dense layers stay frozen too.")
    with pytest.raises(PlanError, match=r"targetModules is gate_proj: adapters on MoE routers and experts are not supported"):
        plan(job(**given | {"peft": {"targetModules": ["gate_proj"]}}), shape)


def test_adapters_on_experts_are_refused_by_what_has_adapters(planned: Planned) -> None:
    with pytest.raises(PlanError, match=r"spec\.peft\.targetModules is w1, w3: adapters on MoE routers and experts are not supported"):
        planned("mixtral-8x7b", task="sft", peft={"targetModules": ["w1", "w3"]})


def test_a_task_that_does_not_pack_says_what_packing_false_means(planned: Callable[..., Plan]) -> None:
    """Before, the job was refused, although nothing in it contradicts itself."""
    steps = {"globalBatchSize": 64, "sequenceLength": 1024, "maxSteps": 1000}
    assert any("packing false has no effect: task pretrain" in line for line in planned(training=steps | {"packing": False}).advice)
    assert not any("packing" in line for line in planned(training=steps | {"packing": True}).advice)
    assert not any("packing" in line for line in planned(task="sft", training=steps | {"packing": False}).advice)
