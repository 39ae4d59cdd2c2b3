"""A model's files: found under every published naming, and refused or told where they are not the model's, before ranks start."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from model_place import FACTS, Place, Tensors, same
from small_model import FAMILIES, SMALL, write_model
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from llmtrain_trainer.model.pretrained import Pretrained
from llmtrain_trainer.model.published_names import split


def as_saved(weights: Tensors, _: str) -> Tensors:
    return weights


def without_prefix(weights: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(f"{prefix}."): weight for name, weight in weights.items()}


def with_buffers(weights: Tensors, prefix: str) -> Tensors:
    layer = "h.0.attn.bias" if prefix == "transformer" else "layers.0.self_attn.rotary_emb.inv_freq"
    return {**weights, f"{prefix}.{layer}": torch.ones(4)}


def in_bf16(weights: Tensors, _: str) -> Tensors:
    return {name: weight.bfloat16() for name, weight in weights.items()}


def compiled(weights: Tensors, _: str) -> Tensors:
    return {f"_orig_mod.{name}": weight for name, weight in weights.items()}


def wrapped(weights: Tensors, _: str) -> Tensors:
    """By DDP, FSDP and activation checkpointing."""
    return {f"module.{name.replace('.0.', '.0._fsdp_wrapped_module._checkpoint_wrapped_module.')}": w for name, w in weights.items()}


def doubled(weights: Tensors, prefix: str) -> Tensors:
    return {f"{prefix}.{name}": weight for name, weight in weights.items()}


NAMINGS: list[Callable[[Tensors, str], Tensors]] = [as_saved, without_prefix, with_buffers, in_bf16, compiled, wrapped, doubled]


@pytest.mark.parametrize("naming", NAMINGS, ids=lambda naming: naming.__name__)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_published_naming_of_every_family_is_read_without_a_word(
    place: Place, family: str, naming: Callable[[Tensors, str], Tensors]
) -> None:
    expected = write_model(FAMILIES[family], place.source)
    prefix = "transformer" if family == "gpt2" else "model"
    place.rewrite(naming(place.weights, prefix))
    assert place.prepare() == 512 and place.notes == []
    whole = {name: weight.bfloat16() for name, weight in expected.items()} if naming is in_bf16 else expected
    assert same(place.read(), whole)


def test_one_weight_under_the_names_of_two_programs_is_refused(place: Place) -> None:
    write_model(FAMILIES["llama"], place.source)
    place.rewrite({**place.weights, **compiled(place.weights, "model")})
    said = place.refused()
    assert "are one weight, " in said and "Save the model without its wrapper (torch.compile, DDP, FSDP), and name that directory" in said


@pytest.mark.parametrize("family", ["mixtral", "qwen2_moe", "qwen3_moe"])
def test_fused_and_single_experts_are_read_under_each_others_names(place: Place, family: str) -> None:
    expected = write_model(FAMILIES[family], place.source)
    singles = {part: weight[at] for name, weight in expected.items() for part, at in split(family, name, weight.shape)}
    for files in (singles, expected):
        place.rewrite(files)
        place.prepare()
        assert same(place.read(), expected)
        source = Pretrained(place.model, "model", {})
        assert all(torch.equal(source.read(name), weight) for name, weight in singles.items())


@pytest.mark.parametrize("family", ["gpt2", "qwen2"])
def test_a_tied_head_may_be_there_left_out_or_stand_alone(place: Place, family: str) -> None:
    expected = write_model(FAMILIES[family], place.source)
    table = next(name for name in expected if name.endswith(("wte.weight", "embed_tokens.weight")))
    headless = {name: weight for name, weight in place.weights.items() if name != "lm_head.weight"}
    alone = {name: weight for name, weight in headless.items() if name != table} | {"lm_head.weight": expected[table]}
    short = {name: weight.bfloat16().float() for name, weight in expected.items()}
    place.rewrite({name: short[name] for name in headless} | {"lm_head.weight": short[table].bfloat16()})
    place.prepare()
    assert same(place.read(), short)
    for files in (headless, headless | {"lm_head.weight": expected[table]}, alone):
        place.rewrite(files)
        place.prepare()
        assert same(place.read(), expected) and place.notes == []
    place.rewrite(headless | {"lm_head.weight": expected[table] + 1})
    assert f"lm_head.weight and {table} differ" in place.refused() or f"{table} and lm_head.weight differ" in place.refused()


def shard(place: Place) -> dict[str, str]:
    """The weights in two files and an index."""
    weights = place.weights
    (place.source / "model.safetensors").unlink()
    names = sorted(weights)
    parts = {f"model-0000{n + 1}-of-00002.safetensors": names[n::2] for n in range(2)}
    for file, members in parts.items():
        place.rewrite({name: weights[name] for name in members}, file)
    index = {name: file for file, members in parts.items() for name in members}
    (place.source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return index


def test_an_index_and_its_files_are_read_whatever_else_lies_there(place: Place) -> None:
    expected = write_model({}, place.source)
    shard(place)
    place.rewrite({"layers.0.wq": torch.ones(2)}, "consolidated.safetensors")
    place.prepare()
    assert same(place.read(), expected)
    (place.source / "model.safetensors.index.json").unlink()
    place.prepare()
    assert same(place.read(), expected)


def test_files_that_are_not_whole_are_refused_by_name(place: Place) -> None:
    write_model({}, place.source)
    index = shard(place)
    second = place.source / "model-00002-of-00002.safetensors"
    whole, listed = second.read_bytes(), place.source / "model.safetensors.index.json"
    second.write_bytes(whole[:-100])
    assert "model-00002-of-00002.safetensors is no whole safetensors file" in place.refused()
    second.write_bytes(b"<html>not found</html>" * 10)
    assert "model-00002-of-00002.safetensors is no whole safetensors file" in place.refused()
    second.unlink()
    assert "model-00002-of-00002.safetensors is not there" in place.refused()
    listed.unlink()
    assert "model-00002-of-00002.safetensors is not there" in place.refused()
    second.write_bytes(whole)
    for text in ("{", "[]", "{}", json.dumps({"weight_map": {"a": "../../etc/x.safetensors"}}), json.dumps({"weight_map": {"a": 1}})):
        listed.write_text(text)
        assert "model.safetensors.index.json cannot be read" in place.refused()
    listed.write_text(json.dumps({"weight_map": index | {"model.more.weight": "model-00001-of-00002.safetensors"}}))
    assert "names model.more.weight (in model-00001-of-00002.safetensors), which the files do not hold" in place.refused()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["pytorch_model.bin"], "its weights are in pytorch_model.bin, and only *.safetensors are read. Convert them: load it with"),
        (["pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json"], "its weights are in pytorch_model-00001-of-00002.bin"),
        (["model-q4_k_m.gguf"], "its weights are in model-q4_k_m.gguf, and only"),
        (["adapter_model.safetensors", "adapter_config.json"], "it holds an adapter, adapter_model.safetensors, and no model. Merge it"),
        (["consolidated.safetensors", "params.json"], "there is no model.safetensors and no model.safetensors.index.json"),
        (["a.safetensors", "b.safetensors"], "it holds a.safetensors, b.safetensors and neither model.safetensors nor"),
        ([], "there is no model.safetensors and no model.safetensors.index.json. Name a directory with weights"),
    ],
)
def test_a_directory_without_a_models_safetensors_is_refused_with_what_is_there(place: Place, files: list[str], said: str) -> None:
    write_model({}, place.source)
    (place.source / "model.safetensors").unlink()
    for name in files:
        (place.source / name).write_bytes(b"x")
    assert said in place.refused()
    assert place.prepare(init="random") == 512


LEFT: list[tuple[Tensors, str]] = [
    (
        {"model.layers.2.mlp.up_proj.weight": torch.ones(32, 16)},
        "that config.json describes is made of model.layers.2",
    ),
    ({"model.layers.0.self_attn.q_proj.bias": torch.ones(16)}, "no weight of the model that config.json describes is made of"),
    ({"lm_head.bias": torch.ones(512)}, "no weight of the model that config.json describes is made of lm_head.bias"),
    ({"model.layers.0.self_attn.q_proj.lora_A.weight": torch.ones(4, 16)}, "its files hold an adapter beside the weights"),
    ({"base_model.model.model.norm.weight": torch.ones(16)}, "its files hold an adapter beside the weights"),
    (
        {"model.layers.0.self_attn.q_proj.weight_scale": torch.ones(1)},
        "is stored as F32 with weight_scale beside it, which no",
    ),
    ({"model.layers.0.self_attn.q_proj.weight.absmax": torch.ones(4)}, "its weights are quantized"),
    ({"model.layers.0.self_attn.q_proj.qweight": torch.ones(4, dtype=torch.int32)}, "its weights are quantized"),
    ({"model.layers.0.self_attn.q_proj.SCB": torch.ones(4)}, "its weights are quantized"),
    ({"model.layers.0.mlp.up_proj.weight_packed": torch.ones(4, dtype=torch.int32)}, "its weights are quantized"),
]


@pytest.mark.parametrize(("more", "said"), LEFT, ids=[next(iter(case[0])) for case in LEFT])
def test_a_tensor_that_no_weight_is_made_of_is_refused(place: Place, more: Tensors, said: str) -> None:
    write_model({}, place.source)
    place.rewrite(place.weights | more)
    assert said in place.refused()


def test_the_head_of_another_task_is_told(place: Place) -> None:
    write_model({}, place.source)
    place.rewrite(place.weights | {"score.weight": torch.ones(2, 16), "v_head.summary.weight": torch.ones(1, 16)})
    place.prepare()
    (note,) = place.notes
    assert "2 tensors such as score.weight of its files belong to nothing that is trained" in note


def test_weights_of_another_size_or_number_are_refused(place: Place) -> None:
    write_model({}, place.source)
    place.configure(intermediate_size=64)
    assert "makes a weight of [32, 16] where config.json asks for [64, 16] (model.layers.0.mlp.gate_proj.weight)" in place.refused()
    place.configure(intermediate_size=32, num_hidden_layers=3)
    assert "weight model.layers.2." in place.refused()
    place.configure(num_hidden_layers=1)
    assert "no weight of the model that config.json describes is made of" in place.refused()


def test_a_mixture_with_an_expert_too_few_is_refused(place: Place) -> None:
    write_model(FAMILIES["mixtral"], place.source)
    singles = {name: weight for name, weight in place.weights.items() if ".experts.3." not in name}
    place.rewrite(singles)
    assert "makes a weight of [3, 64, 16] where config.json asks for [4, 64, 16]" in place.refused()


def test_a_config_that_transformers_does_not_accept_is_refused_before_ranks_start(place: Place) -> None:
    write_model({}, place.source)
    place.configure(hidden_act="nothing")
    assert "transformers does not accept its config.json" in place.refused()
    place.configure(hidden_act="silu", _attn_implementation="flash_attention_2", return_dict=False)
    assert place.prepare() == 512
    bad = SMALL | {"vocab_size": "512"}
    assert "model.config is llama: transformers does not accept it" in place.refused(source=None, config=bad)


def test_ids_with_a_gap_beyond_the_embedding_are_refused_with_the_id(place: Place) -> None:
    write_model({}, place.source)
    gap = FACTS.model_copy(update={"highest_id": 600, "highest_token": "<|far|>"})
    said = place.refused(facts=gap)
    assert "the tokenizer's highest token id is 600 (<|far|>), and the embedding has 512 rows" in said
    assert "resize_token_embeddings(601)" in said and "tokenizer.source" in said
    escapes = FACTS.model_copy(update={"highest_id": 600, "highest_token": "\x1b[2J\n"})
    assert "(?[2J )" in place.refused(facts=escapes)
    assert "Set vocab_size to at least 601" in place.refused(facts=gap, source=None, config=SMALL)
    assert place.prepare(facts=FACTS.model_copy(update={"highest_id": 511})) == 512


def test_the_way_out_of_a_small_embedding_works(place: Place) -> None:
    write_model({}, place.source)
    network = AutoModelForCausalLM.from_pretrained(place.source)
    network.resize_token_embeddings(601)
    network.save_pretrained(place.source)
    assert place.prepare(facts=FACTS.model_copy(update={"highest_id": 600})) == 601


def test_a_key_that_the_model_does_not_know_is_told(place: Place) -> None:
    more = {"num_hidden_layer": 9, "rope_theta": 5e5, "colour": 1, "rope_scaling": None, "torch_dtype": "bfloat16", "architectures": ["X"]}
    place.prepare(source=None, config=SMALL | more)
    assert place.notes == [
        "model.config.colour: a model of type llama has no such key, so it has no effect.",
        "model.config.num_hidden_layer: a model of type llama has no such key, so it has no effect, is num_hidden_layers meant?",
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_config_as_transformers_saves_it_is_taken_without_a_word(place: Place, family: str) -> None:
    saved = json.loads(CONFIG_MAPPING[FAMILIES[family].get("model_type", "llama")]().to_json_string(use_diff=False))
    place.prepare(source=None, config={key: value for key, value in saved.items() if value is not None})
    assert place.notes == []
