"""The split of a model into stages, on the meta device: no process, no bytes."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from llmtrain_trainer.engines import build_engine
from llmtrain_trainer.engines.native import tensor
from llmtrain_trainer.model.materialize import materialize
from llmtrain_trainer.model.pretrained import Pretrained
from llmtrain_trainer.model.skeleton import UNMASKED, skeleton
from llmtrain_trainer.model.stage import cut
from llmtrain_trainer.objectives import OBJECTIVES
from llmtrain_trainer.objectives.causal_lm import CausalLm


def network(parity: ModuleType, directory: Path, **case: Any) -> Any:
    config = parity.config_of(parity.Case(**case), 1)
    (directory / "config.json").write_text(json.dumps(config.model.config))
    return skeleton(config, directory)


@pytest.mark.parametrize("kind", ["LLAMA", "QWEN3", "GPT2", "MIXTRAL"])
def test_every_weight_is_on_one_stage_under_its_own_name(parity: ModuleType, tmp_path: Path, kind: str) -> None:
    shape = getattr(parity, kind) | {"tie_word_embeddings": False}
    whole = {name for name, _ in network(parity, tmp_path, shape=shape).named_parameters()}
    stages = [cut(network(parity, tmp_path, shape=shape), index, ((0, 1), (1, 3), (3, 4)), CausalLm()) for index in range(3)]
    names = [name for stage in stages for name, _ in stage.names()]
    assert sorted(names) == sorted(whole)


@pytest.mark.parametrize("kind", ["LLAMA", "GPT2"])
def test_a_tied_head_goes_by_its_embedding_s_name(parity: ModuleType, tmp_path: Path, kind: str) -> None:
    shape = getattr(parity, kind) | {"tie_word_embeddings": True}
    first, last = (cut(network(parity, tmp_path, shape=shape), index, ((0, 2), (2, 4)), CausalLm()) for index in range(2))
    assert first.embedding in dict(last.names())
    assert last.head == "lm_head.weight"
    assert last.head not in dict(last.names())


@pytest.mark.parametrize("ranges", [((0, 2), (2, 3)), ((0, 1), (2, 4)), ((0, 3), (2, 4)), ((2, 4), (0, 2)), ((0, 4), (4, 4))])
def test_ranges_that_are_not_all_layers_once_in_order_are_refused(parity: ModuleType, tmp_path: Path, ranges: Any) -> None:
    with pytest.raises(ValueError, match=r"it must hold layers 0 to 3 once each and in order"):
        cut(network(parity, tmp_path), 0, ranges, CausalLm())


def test_a_family_without_a_row_is_not_split(parity: ModuleType, tmp_path: Path) -> None:
    unknown = network(parity, tmp_path, shape={"model_type": "persimmon", "architectures": ["PersimmonForCausalLM"]})
    with pytest.raises(ValueError, match="persimmon has no split into pipeline stages: set pipeline to 1"):
        cut(unknown, 0, ((0, 2), (2, 4)), CausalLm())


def test_a_layer_is_drawn_the_same_in_any_stage(parity: ModuleType, tmp_path: Path) -> None:
    whole, half = network(parity, tmp_path), network(parity, tmp_path)
    stage = cut(half, 1, ((0, 2), (2, 4)), CausalLm())
    for model in (whole, half):
        materialize(model, "", None, 7, torch.device("cpu"))
    drawn = dict(whole.named_parameters())
    assert all(torch.equal(drawn[name], weight) for name, weight in stage.names())


def test_another_seed_draws_other_weights(parity: ModuleType, tmp_path: Path) -> None:
    left, right = network(parity, tmp_path), network(parity, tmp_path)
    materialize(left, "", None, 7, torch.device("cpu"))
    materialize(right, "", None, 8, torch.device("cpu"))
    assert not torch.equal(left.model.layers[0].mlp.up_proj.weight, right.model.layers[0].mlp.up_proj.weight)


def test_two_layers_are_not_drawn_alike(parity: ModuleType, tmp_path: Path) -> None:
    model = network(parity, tmp_path)
    materialize(model, "", None, 7, torch.device("cpu"))
    assert not torch.equal(model.model.layers[0].mlp.up_proj.weight, model.model.layers[1].mlp.up_proj.weight)


def test_a_weight_that_no_file_has_is_named(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"model.norm.weight": torch.ones(2)}, tmp_path / "model.safetensors")
    source = Pretrained(tmp_path, "model", {})
    assert source.read("norm.weight").tolist() == [1.0, 1.0]
    with pytest.raises(ValueError, match=r"weight model.embed_tokens.weight is in no safetensors file"):
        source.read("model.embed_tokens.weight")


def test_a_model_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"there is no model.safetensors and no model.safetensors.index.json.* model.init: random needs none"
    ):
        Pretrained(tmp_path, "model", {})


def test_the_tensor_plan_names_every_matrix_of_a_layer(parity: ModuleType, tmp_path: Path) -> None:
    plan = tensor.styles(network(parity, tmp_path), 2)
    matrices = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "embed_tokens", "lm_head"}
    assert {name.rpartition(".")[2] for name in plan} == matrices
    assert plan["model.layers.3.self_attn.o_proj"] == tensor.ROW


def test_norms_inside_the_heads_are_summed_over_tp(parity: ModuleType, tmp_path: Path) -> None:
    model = network(parity, tmp_path, shape=parity.QWEN3)
    assert "model.layers.0.self_attn.q_norm.weight" in tensor.partial_over_tp(model, tensor.styles(model, 2))


def test_a_model_without_a_plan_is_not_split_over_tp(parity: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gpt2 has no tensor-parallel plan"):
        tensor.styles(network(parity, tmp_path, shape=parity.GPT2), 2)


def test_a_plan_with_an_unknown_style_is_refused(parity: ModuleType, tmp_path: Path) -> None:
    model = network(parity, tmp_path)
    model._tp_plan = dict(model._tp_plan) | {"model.layers.*.self_attn.q_proj": "diagonal"}
    with pytest.raises(ValueError, match=r"splits model\.layers\.0\.self_attn\.q_proj as diagonal, which the native engine does not have"):
        tensor.styles(model, 2)


def test_heads_that_tp_does_not_divide_are_refused(parity: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.num_key_value_heads is 2, which tensor 4 does not divide"):
        tensor.check(network(parity, tmp_path, shape={"num_key_value_heads": 2}).config, 4)


def test_adapters_reach_all_linear_layers_but_the_head(parity: ModuleType, tmp_path: Path) -> None:
    model = network(parity, tmp_path, peft=parity.LORA)
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert len(trained) == 4 * 7 * 2
    assert not any("lm_head" in name for name in trained)


def test_a_loss_that_needs_a_second_model_is_refused(parity: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Compared(CausalLm):
        needs_reference = True

    monkeypatch.setitem(OBJECTIVES, "pretrain", Compared())
    with pytest.raises(ValueError, match="task is pretrain, whose loss compares with the model that training started from"):
        build_engine(parity.config_of(parity.Case(), 1), tmp_path)


@pytest.mark.parametrize(
    ("kind", "changes", "expected"),
    [("LLAMA", {}, UNMASKED), ("QWEN3", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0}, "sdpa")],
)
def test_only_rows_that_see_all_before_go_without_a_mask(
    parity: ModuleType, tmp_path: Path, kind: str, changes: dict[str, Any], expected: str
) -> None:
    model = network(parity, tmp_path, shape=getattr(parity, kind) | changes)
    assert model.config._attn_implementation == expected
    materialize(model, "", None, 1, torch.device("cpu"))
    ids = torch.arange(32).view(2, 16)
    found = model.eval()(ids, use_cache=False).logits
    model.set_attn_implementation("sdpa")
    assert torch.equal(found, model(ids, use_cache=False).logits)


@pytest.mark.parametrize("kind", ["LLAMA", "QWEN3", "MIXTRAL", "QWEN2_MOE", "QWEN3_MOE", "GPT2"])
def test_a_model_is_its_base_and_its_head_and_nothing_between(parity: ModuleType, kind: str) -> None:
    """A pipeline of deepspeed runs the two one after another: what a family did between them would be lost there."""
    from transformers import AutoConfig, AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**parity.LLAMA | getattr(parity, kind))).eval()
    ids = torch.arange(8)[None]
    with torch.no_grad():
        whole, parts = model(ids).logits, model.get_output_embeddings()(model.base_model(ids).last_hidden_state)
    assert torch.equal(whole, parts)


@pytest.mark.parametrize("kind", ["LLAMA", "QWEN3", "MIXTRAL"])
def test_the_row_of_the_pad_token_is_trained_like_any_other_in_every_engine(parity: ModuleType, tmp_path: Path, kind: str) -> None:
    from llmtrain_trainer.engines.megatron.model import outline

    model = network(parity, tmp_path, shape=getattr(parity, kind) | {"pad_token_id": 2, "return_dict": False})
    outlined = outline(tmp_path)
    for found in (model, outlined):
        assert found.get_input_embeddings().padding_idx is None and found.config.return_dict
