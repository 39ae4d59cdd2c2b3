"""Matrices in few bits are read as transformers and the libraries that wrote them read them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_place import Place
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_model import write_model

from llmtrain_trainer.model.packed import unpacked

Tensors = dict[str, torch.Tensor]
FILE = Path(__file__).with_name("quantized.safetensors")
with safe_open(FILE, framework="pt") as opened:
    CASES: dict[str, dict[str, Any]] = {case: json.loads(said) for case, said in opened.metadata().items()}
SIZES = {"hidden_size": 64, "vocab_size": 320, "num_attention_heads": 2, "head_dim": 32, "intermediate_size": 32, "num_hidden_layers": 1}
UP = "model.layers.0.mlp.up_proj."
GPT2 = SIZES | {"model_type": "gpt2", "n_embd": 64, "n_layer": 1, "n_head": 2}


def put(place: Place, module: str, parts: Tensors, said: dict[str, Any]) -> Tensors:
    """Write a small model of which one matrix is stored as `parts`; gives what a rank reads."""
    write_model(GPT2 if module.startswith("transformer") else SIZES, place.source)
    rest = {name: weight for name, weight in place.weights.items() if name != f"{module}weight"}
    place.rewrite(rest | parts)
    place.configure(quantization_config=said)
    place.prepare()
    return place.read()


@pytest.mark.parametrize("case", sorted(CASES))
def test_a_matrix_is_what_transformers_loads(place: Place, case: str) -> None:
    found = {name.partition("/")[2]: tensor for name, tensor in load_file(FILE).items() if name.startswith(f"{case}/")}
    expected = found.pop("expected")
    module = "transformer.h.0.attn.c_proj." if "gpt2" in case else UP
    read = put(place, module, found, CASES[case])[f"{module}weight"]
    assert place.notes == [] and read.dtype == torch.float32 and expected.float().std() > 0.01
    if case == "nvfp4":  # its library computes in bf16, whatever it is asked for
        read, expected = read.bfloat16(), expected.bfloat16()
    assert torch.equal(read.to(expected.dtype), expected)


# What transformers reads with libraries that need a GPU or a compiler: packed here as those say that they do


def words(numbers: torch.Tensor, bits: int) -> torch.Tensor:
    """numbers [rows, n] -> words [rows, n * bits / 32], lowest bits first."""
    rows = []
    for row in numbers.tolist():
        stream = sum(number << index * bits for index, number in enumerate(row))
        rows.append([(stream >> start) & 0xFFFFFFFF for start in range(0, len(row) * bits, 32)])
    return torch.tensor(rows, dtype=torch.int64).to(torch.uint32).view(torch.int32)


def grid(bits: int, group: torch.Tensor, groups: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Numbers [32, 64], scales and zero points [groups, 32], and the matrix that they stand for. Zero points of 0 and the largest occur."""
    most = (1 << bits) - 1
    torch.manual_seed(bits)
    numbers, zeros = torch.randint(0, most + 1, (32, 64)), torch.randint(0, most + 1, (groups, 32))
    zeros[0, :4] = torch.tensor([0, most, 0, 1])
    scales = torch.rand(groups, 32) + 0.1
    return numbers, scales, zeros, (numbers - zeros[group].T).float() * scales[group].T


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("form", ["gptq", "gptq_v2", "auto_round", "auto_round:auto_gptq"])
@pytest.mark.parametrize("ordered", [True, False])
def test_gptq(place: Place, bits: int, form: str, ordered: bool) -> None:
    group = torch.arange(64) // 32 if ordered else torch.arange(64) % 2
    numbers, scales, zeros, matrix = grid(bits, group, 2)
    stored = words(zeros, bits)
    if form in ("gptq", "auto_round:auto_gptq"):  # less one, from the words where a number does not span two
        ones = words(torch.ones_like(zeros), bits)
        stored = words((zeros - 1) % (1 << bits), bits) if 32 % bits else (stored.long() - ones.long()).to(torch.int32)
    parts = {f"{UP}qweight": words(numbers.T.T, bits).T, f"{UP}qzeros": stored, f"{UP}scales": scales, f"{UP}bias": torch.zeros(32)}
    if not ordered:
        parts[f"{UP}g_idx"] = group.int()
    how = {"quant_method": "auto-round", "packing_format": form} if "round" in form else {"quant_method": "gptq", "checkpoint_format": form}
    said = how | {"bits": bits, "group_size": 32}
    assert torch.equal(put(place, UP, parts, said)[f"{UP}weight"], matrix)
    assert place.notes == []


def test_awq(place: Place) -> None:
    numbers, scales, zeros, matrix = grid(4, torch.arange(64) // 32, 2)
    order = [0, 2, 4, 6, 1, 3, 5, 7]

    def awq(columns: torch.Tensor) -> torch.Tensor:
        return words(columns.unflatten(1, (-1, 8))[:, :, order].flatten(1), 4)

    parts = {f"{UP}qweight": awq(numbers.T), f"{UP}qzeros": awq(zeros), f"{UP}scales": scales}
    said = {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm"}
    assert torch.equal(put(place, UP, parts, said)[f"{UP}weight"], matrix)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(
    ("key", "said", "bias"),
    [
        ("quantization_config", {"quant_method": "metal", "group_size": 32}, "qbiases"),
        ("quantization", {"group_size": 32, "model.layers.0.mlp.up_proj": {"group_size": 32, "bits": 8}}, "biases"),
    ],
)
def test_what_metal_and_mlx_store(place: Place, bits: int, key: str, said: dict[str, Any], bias: str) -> None:
    from transformers.integrations.metal_quantization import _affine_dequantize_tensor, _affine_quantize_tensor

    numbers, scales, biases = _affine_quantize_tensor(torch.randn(32, 64), 32, bits)
    parts = {f"{UP}weight": numbers, f"{UP}scales": scales, f"{UP}{bias}": biases}
    write_model(SIZES, place.source)
    place.rewrite(place.weights | parts)
    place.configure(**{key: said | {"bits": bits}})
    place.prepare()
    assert torch.equal(place.read()[f"{UP}weight"], _affine_dequantize_tensor(numbers, scales, biases, 32, bits))


def test_inputs_of_compressed_tensors_may_say_which_group_they_are_of(place: Place) -> None:
    group = (torch.arange(64) % 2).int()
    numbers, scales, _, _ = grid(4, group, 2)
    parts = {"weight_packed": words(numbers, 4), "weight_scale": scales.T, "weight_shape": torch.tensor([32, 64]), "weight_g_idx": group}
    said = {"quant_method": "compressed-tensors", "format": "pack-quantized"}
    read = put(place, UP, {UP + part: tensor for part, tensor in parts.items()}, said)[f"{UP}weight"]
    assert torch.equal(read, (numbers - 8).float() * scales.T[:, group.long()])


@settings(max_examples=60, deadline=None)
@given(bits=st.integers(1, 8), numbers=st.lists(st.integers(0, 255), min_size=1, max_size=80))
def test_numbers_come_out_of_words_as_they_went_in(bits: int, numbers: list[int]) -> None:
    row = torch.tensor([[number % (1 << bits) for number in numbers]])
    assert torch.equal(unpacked(words(row, bits), bits, len(numbers)).long(), row)


# Parts that lack or do not belong together


def nf4() -> Tensors:
    return {name.partition("/")[2]: tensor for name, tensor in load_file(FILE).items() if name.startswith("nf4 nested/") and UP in name}


STATE = f"{UP}weight.quant_state.bitsandbytes__nf4"
DAMAGED: list[tuple[Callable[[Tensors], Tensors], str]] = [
    (
        lambda parts: parts | {f"{UP}weight.absmax": parts[f"{UP}weight.absmax"][:-1]},
        "do not make a matrix as bitsandbytes 4 bits stores it",
    ),
    (lambda parts: parts | {f"{UP}weight": parts[f"{UP}weight"][:-1]}, "do not make a matrix"),
    (lambda parts: parts | {STATE: torch.tensor([*b"{}"], dtype=torch.uint8)}, "KeyError: 'shape'"),
    (lambda parts: parts | {STATE: torch.tensor([255, 1], dtype=torch.uint8)}, "UnicodeDecodeError"),
    (lambda parts: parts | {STATE: torch.full((50_000,), ord("["), dtype=torch.uint8)}, "RecursionError"),
    (lambda parts: parts | {STATE: torch.full((100_000,), ord("["), dtype=torch.uint8)}, "do not make a matrix"),
    (lambda parts: {name: tensor for name, tensor in parts.items() if "quant_map" not in name}, "which no engine trains"),
    (lambda parts: {name: tensor for name, tensor in parts.items() if name != f"{UP}weight.absmax"}, "which no engine trains"),
    (lambda parts: parts | {f"{UP}bias": torch.ones(32)}, "is made of model.layers.0.mlp.up_proj.bias"),
]


@pytest.mark.parametrize(("damage", "said"), DAMAGED, ids=range(len(DAMAGED)))
def test_parts_that_do_not_belong_together_are_refused(place: Place, damage: Callable[[Tensors], Tensors], said: str) -> None:
    write_model(SIZES, place.source)
    place.rewrite({**place.weights, **damage(nf4())})
    place.configure(quantization_config=CASES["nf4 nested"])
    assert said in place.refused()


def test_groups_that_config_does_not_count_are_refused(place: Place) -> None:
    numbers, scales, zeros, _ = grid(4, torch.arange(64) // 32, 2)
    parts = {f"{UP}qweight": words(numbers, 4).T, f"{UP}qzeros": words(zeros, 4), f"{UP}scales": scales}
    write_model(SIZES, place.source)
    whole = {name: weight for name, weight in place.weights.items() if name != f"{UP}weight"}
    place.rewrite(whole | parts)
    place.configure(quantization_config={"quant_method": "gptq", "bits": 4, "group_size": 128})
    assert "do not make a matrix as gptq 4 bits stores it" in place.refused()
    place.rewrite(whole | parts | {f"{UP}g_idx": torch.full((64,), 2, dtype=torch.int32)})
    assert "do not make a matrix" in place.refused()
    for odd in (torch.zeros(0, dtype=torch.int32), torch.zeros(64, 1, dtype=torch.int32), torch.zeros(32, dtype=torch.int32)):
        place.rewrite(whole | parts | {f"{UP}g_idx": odd})
        assert "do not make a matrix" in place.refused()
    place.rewrite(whole | parts | {f"{UP}weight": torch.ones(32, 64)})
    place.configure(quantization_config={"quant_method": "gptq", "bits": 4, "group_size": 32})
    assert "the files hold model.layers.0.mlp.up_proj.weight twice" in place.refused()


def test_an_embedding_in_few_bits_that_is_tied_to_a_head_in_few_bits_is_compared_whole(place: Place, tmp_path: Path) -> None:
    from transformers.integrations.metal_quantization import _affine_quantize_tensor

    write_model(SIZES | {"tie_word_embeddings": True}, place.source)
    numbers, scales, biases = _affine_quantize_tensor(torch.randn(320, 64), 32, 4)
    table = {"weight": numbers, "scales": scales, "biases": biases}
    rest = {name: weight for name, weight in place.weights.items() if "embed" not in name}
    place.configure(quantization={"group_size": 32, "bits": 4})
    place.rewrite(rest | {f"{stem}.{part}": tensor for stem in ("model.embed_tokens", "lm_head") for part, tensor in table.items()})
    assert place.prepare() == 320
    other = {f"lm_head.{part}": tensor for part, tensor in (table | {"biases": biases + 1}).items()}
    save_file(place.weights | other, place.source / "model.safetensors", metadata={"format": "pt"})
    assert "differ, and config.json says that they are one weight" in place.refused()
