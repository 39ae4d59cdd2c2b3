"""Context and expert degrees in the plan: what a rank holds, what it needs, what is chosen and why."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llmtrain_operator.manifest.problem import PlanError
from llmtrain_operator.plan.layout.layout import coordinates
from llmtrain_operator.plan.model.weights import held
from llmtrain_operator.plan.plan import Plan

Planned = Callable[..., Plan]
Term = Callable[[Plan, str], int]
FOUR_NODES = {"nodes": 4, "gpusPerNode": 8, "gpu": "H100-80GB"}
LONG = {"sequenceLength": 131_072, "globalBatchSize": 16}


def test_cut_sequences_leave_a_part_of_the_activations(planned: Planned, term: Term) -> None:
    whole = planned("gpt2", training={"sequenceLength": 1024, "globalBatchSize": 8})
    cut = planned("gpt2", training={"sequenceLength": 1024, "globalBatchSize": 8}, parallelism={"context": 4})
    assert (cut.mesh.cp, cut.mesh.dp) == (4, 2)
    assert term(whole, "activations") / 4 < term(cut, "activations") < term(whole, "activations") / 3.5
    assert term(cut, "logits") < term(whole, "logits")


def test_all_ranks_that_see_other_tokens_share_the_weights_out(planned: Planned, term: Term) -> None:
    assert term(planned(), "weights") == term(planned(parallelism={"context": 4}), "weights")


def test_attention_s_mask_is_of_whole_sequences(planned: Planned, term: Term) -> None:
    packed = {"task": "sft", "training": {"globalBatchSize": 8}}
    assert term(planned(**packed), "attention mask") == term(planned(**packed, parallelism={"context": 4}), "attention mask") > 0


def test_keys_are_kept_once_more_for_each_rank_beyond_the_key_value_heads() -> None:
    from llmtrain_operator.plan.memory.activations import context_values
    from llmtrain_operator.plan.model.families import shape_of

    config = {"model_type": "llama", "hidden_size": 512, "num_hidden_layers": 1, "num_attention_heads": 8, "num_key_value_heads": 2}
    shape = shape_of(config | {"intermediate_size": 8, "vocab_size": 8})
    assert [context_values(shape, tp=1, cp=cp) for cp in (1, 2, 4, 8)] == [0, 512, 512 + 2 * 128, 512 + 2 * 3 * 128]


def test_experts_stand_on_each_rank_once_in_an_expert_group(planned: Planned) -> None:
    whole, cut = (planned("mixtral-8x7b", resources=FOUR_NODES, parallelism={"expert": degree}) for degree in (1, 8))
    assert whole.shape
    all_of_it, part = (held(whole.shape, found.mesh, None, 0) for found in (whole, cut))
    assert part.experts == all_of_it.experts / 8
    assert part.layers == all_of_it.layers


def test_the_same_share_of_every_weight_but_less_to_gather(planned: Planned, term: Term) -> None:
    whole, cut = (planned("mixtral-8x7b", resources=FOUR_NODES, parallelism={"expert": degree}) for degree in (1, 8))
    for name in ("weights", "gradients", "optimizer"):
        assert term(whole, name) == pytest.approx(term(cut, name), rel=1e-9)
    assert term(cut, "gathered layers") < term(whole, "gathered layers") / 4


def test_replicas_that_share_nothing_hold_their_experts_whole(planned: Planned, term: Term) -> None:
    found = planned("mixtral-8x7b", resources=FOUR_NODES, parallelism={"expert": 8, "zeroStage": 0})
    assert found.shape
    mine = held(found.shape, found.mesh, None, 0)
    assert term(found, "weights") == int(4 * (mine.trained + mine.experts))


def test_adapters_sit_on_no_expert_and_no_router(planned: Planned) -> None:
    found = planned("mixtral-8x7b", resources=FOUR_NODES, peft={"method": "lora", "rank": 8})
    attention = 32 * 8 * ((4096 + 4096) * 2 + (4096 + 1024) * 2)
    assert found.trainable == attention
    with pytest.raises(PlanError, match=r"a mixtral layer has k_proj, o_proj, q_proj, v_proj"):
        planned("mixtral-8x7b", resources=FOUR_NODES, peft={"targetModules": ["experts.gate_up_proj"]})


def test_a_rank_s_part_of_the_experts_follows_its_place_among_the_replicas(planned: Planned) -> None:
    mesh = planned("mixtral-8x7b", resources=FOUR_NODES, parallelism={"tensor": 2, "context": 2, "expert": 4}).mesh
    assert [coordinates(mesh, rank).ep for rank in range(0, 16, 2)] == [0, 1, 2, 3, 0, 1, 2, 3]


def test_auto_cuts_long_sequences_and_says_why(planned: Planned) -> None:
    found = planned(parallelism={"auto": True}, training=LONG)
    assert found.fits and found.mesh.cp > 1
    assert any(line.startswith(f"context {found.mesh.cp}: at a lower setting") for line in found.why)


def test_auto_leaves_short_sequences_whole(planned: Planned) -> None:
    found = planned(parallelism={"auto": True})
    assert found.mesh.cp == 1 and not any(line.startswith("context") for line in found.why)


def test_auto_cuts_experts_where_replicas_share_nothing(planned: Planned) -> None:
    resources = FOUR_NODES | {"nodes": 8}
    found = planned("qwen3-30b-a3b", parallelism={"auto": True, "zeroStage": 0}, resources=resources)
    assert found.fits and found.mesh.ep > 1
    assert any(line.startswith(f"expert {found.mesh.ep}: at a lower setting") for line in found.why)


def test_experts_that_every_rank_gathers_are_worth_a_word(planned: Planned) -> None:
    whole, cut = (planned("mixtral-8x7b", resources=FOUR_NODES, parallelism={"expert": degree}) for degree in (1, 8))
    assert any("all-gathers 8 experts per layer on every rank; expert: 8 keeps experts" in line for line in whole.advice)
    assert not any("gathers" in line for line in cut.advice)


def test_groups_that_cross_nodes_are_worth_a_word(planned: Planned) -> None:
    resources = FOUR_NODES | {"gpusPerNode": 2}
    found = planned("mixtral-8x7b", resources=resources, parallelism={"context": 4, "expert": 8})
    assert any("context groups cross nodes" in line for line in found.advice)
    assert any("expert groups cross nodes" in line for line in found.advice)
