"""Published weights in few bits, with scales beside them: read as the weights that they stand for, or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from model_place import Place, Tensors
from small_model import FAMILIES, write_model


def scaled(weights: Tensors, scale: Callable[[torch.Tensor], torch.Tensor], suffix: str, dtype: torch.dtype) -> Tensors:
    """Matrices of the layers as `dtype`, with their scales."""
    out: Tensors = {}
    for name, weight in weights.items():
        if weight.ndim == 2 and "layers" in name:
            factor = scale(weight)
            spread = spread_over(factor, weight)
            whole = (weight / spread).round() if dtype is torch.int8 else weight / spread
            out |= {name: whole.to(dtype), name + suffix: factor}
        else:
            out[name] = weight
    return out


def spread_over(factor: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Scales of blocks of 8 x 8, of rows, or of all, at every element."""
    if factor.numel() == 1 or factor.shape[1] == 1:
        return factor.reshape(-1, 1)
    return factor.repeat_interleave(8, 0)[: weight.shape[0]].repeat_interleave(8, 1)[:, : weight.shape[1]]


def blocks(weight: torch.Tensor) -> torch.Tensor:
    rows, columns = (-(-size // 8) for size in weight.shape)
    padded = torch.zeros(rows * 8, columns * 8)
    padded[: weight.shape[0], : weight.shape[1]] = weight.abs()
    return padded.view(rows, 8, columns, 8).amax((1, 3)) / 448


def rows_of(weight: torch.Tensor) -> torch.Tensor:
    return weight.abs().amax(1, keepdim=True) / 127


def one(weight: torch.Tensor) -> torch.Tensor:
    return (weight.abs().max() / 448).reshape(1)


BLOCKS = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [8, 8]}
READ: list[tuple[dict[str, Any], Callable[[torch.Tensor], torch.Tensor], str, torch.dtype]] = [
    (BLOCKS, blocks, "_scale_inv", torch.float8_e4m3fn),
    (BLOCKS | {"weight_block_size": None}, one, "_scale_inv", torch.float8_e4m3fn),
    ({"quant_method": "fbgemm_fp8"}, rows_of, "_scale", torch.float8_e4m3fn),
    ({"quant_method": "compressed-tensors", "format": "int-quantized"}, rows_of, "_scale", torch.int8),
    ({"quant_method": "compressed-tensors", "format": "float-quantized"}, one, "_scale", torch.float8_e4m3fn),
]


@pytest.mark.parametrize("family", ["llama", "mixtral", "qwen2"])
@pytest.mark.parametrize(("found", "scale", "suffix", "dtype"), READ, ids=[f"{case[0]['quant_method']}{case[1].__name__}" for case in READ])
def test_weights_with_scales_are_those_of_the_model(
    place: Place, family: str, found: dict[str, Any], scale: Callable[[torch.Tensor], torch.Tensor], suffix: str, dtype: torch.dtype
) -> None:
    expected = write_model(FAMILIES[family] | {"intermediate_size": 36}, place.source)
    more = {"model.layers.0.self_attn.k_proj.input_scale": torch.ones(1)}
    place.rewrite(scaled(place.weights, scale, suffix, dtype) | more)
    place.configure(quantization_config=found)
    place.prepare()
    assert ["input_scale" in note for note in place.notes] == [True]
    for name, weight in place.read().items():
        assert weight.shape == expected[name].shape
        # Half a step: of 8-bit floats a sixteenth of the value, of integers and of the smallest floats a share of the largest.
        assert torch.all((weight - expected[name]).abs() <= expected[name].abs() / 16 + expected[name].abs().max() / 250)


def test_fp8_is_what_transformers_makes_of_it(place: Place) -> None:
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize

    write_model({}, place.source)
    place.rewrite(scaled(place.weights, blocks, "_scale_inv", torch.float8_e4m3fn))
    place.configure(quantization_config=BLOCKS)
    place.prepare()
    files, read = place.weights, place.read()
    for name in [name for name in files if name + "_scale_inv" in files]:
        theirs = Fp8Dequantize(None)._dequantize_one(files[name], files[name + "_scale_inv"], torch.float32)
        assert torch.equal(read[name], theirs)


def test_scales_that_config_does_not_speak_of_or_that_lack_are_refused(place: Place) -> None:
    write_model({}, place.source)
    whole = place.weights
    stored = scaled(whole, blocks, "_scale_inv", torch.float8_e4m3fn)
    place.rewrite(stored)
    assert "F8_E4M3 with weight_scale_inv beside it, and config.json does not say how to read them" in place.refused()
    place.configure(quantization_config=BLOCKS)
    name = "model.layers.0.mlp.up_proj.weight"
    place.rewrite({key: weight for key, weight in stored.items() if key != f"{name}_scale_inv"})
    assert f"{name} is stored as F8_E4M3 without a scale, which no engine trains" in place.refused()
    place.rewrite(stored | {f"{name}_scale_inv": torch.ones(3, 7)})
    assert "whose shape does not fit ([3, 7] for [32, 16])" in place.refused()
    place.rewrite(stored | {f"{name}_zero_point": torch.zeros(1)})
    assert "whose shape does not fit ([4, 2] and [1] for [32, 16])" in place.refused()
    place.configure(quantization_config={"quant_method": "hqq", "bits": 4})
    assert "its config.json says that the weights are stored as hqq 4 bits, which no engine trains" in place.refused()
    place.rewrite({key: weight.to(torch.int64) for key, weight in whole.items()})
    place.configure(quantization_config=None)
    assert "is stored as I64 without a scale" in place.refused()


def test_scales_without_elements_do_not_fit() -> None:
    from llmtrain_trainer.model.dequantize import spans

    assert spans((32, 32), (0, 1), (16, 16)) is None
    assert spans((32, 32), (2, 2), (16, 16)) == (16, 16)
