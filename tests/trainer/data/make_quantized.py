"""Makes quantized.safetensors: matrices in few bits as bitsandbytes and compressed-tensors store them, and what transformers loads.

Run it where both libraries are installed beside transformers: python make_quantized.py
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, CompressedTensorsConfig, GPT2Config, LlamaConfig

SIZES: dict[str, Any] = {"vocab_size": 320, "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
LLAMA, GPT2 = "model.layers.0.mlp.up_proj.", "transformer.h.0.attn.c_proj."
BNB: dict[str, tuple[str, dict[str, Any]]] = {
    "nf4": (LLAMA, {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}),
    "nf4 nested": (LLAMA, {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}),
    "fp4 in bf16": (LLAMA, {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4", "bnb_4bit_quant_storage": torch.bfloat16}),
    "llm int8": (LLAMA, {"load_in_8bit": True}),
    "nf4 of gpt2": (GPT2, {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}),
    "llm int8 of gpt2": (GPT2, {"load_in_8bit": True}),
}
INT4 = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32}
CHANNEL = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"}
FP8 = {"num_bits": 8, "type": "float", "symmetric": True}
COMPRESSED: dict[str, tuple[str, dict[str, Any]]] = {
    "int4": ("pack-quantized", INT4),
    "int4 with zero points": ("pack-quantized", INT4 | {"symmetric": False}),
    "int3": ("pack-quantized", INT4 | {"num_bits": 3}),
    "int8 packed": ("pack-quantized", CHANNEL),
    "int8": ("int-quantized", CHANNEL),
    "int8 with zero points": ("int-quantized", CHANNEL | {"symmetric": False}),
    "fp8 in blocks": ("float-quantized", FP8 | {"strategy": "block", "block_structure": [24, 48]}),
    "fp8": ("float-quantized", FP8 | {"strategy": "tensor"}),
    "mxfp8": ("mxfp8-quantized", FP8 | {"strategy": "group", "group_size": 32}),
    "nvfp4": ("nvfp4-pack-quantized", INT4 | {"type": "float", "strategy": "tensor_group", "group_size": 16}),
    "mxfp4": ("mxfp4-pack-quantized", INT4 | {"type": "float"}),
}


def base(module: str, directory: Path) -> None:
    torch.manual_seed(0)
    shape = LlamaConfig(intermediate_size=32, **SIZES) if module == LLAMA else GPT2Config(**SIZES)
    AutoModelForCausalLM.from_config(shape).to(torch.bfloat16).save_pretrained(directory)


def kept(case: str, module: str, directory: Path, expected: torch.Tensor) -> dict[str, torch.Tensor]:
    parts = {f"{case}/{name}": tensor for name, tensor in load_file(directory / "model.safetensors").items() if name.startswith(module)}
    return parts | {f"{case}/expected": expected.detach().contiguous().clone()}


def of_bitsandbytes(case: str, root: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    module, settings = BNB[case]
    base(module, root / "base")
    given = BitsAndBytesConfig(**settings)
    AutoModelForCausalLM.from_pretrained(root / "base", quantization_config=given, dtype=torch.bfloat16).save_pretrained(root / "few")
    network = AutoModelForCausalLM.from_pretrained(root / "few").dequantize()
    expected = network.get_parameter(f"{module}weight")
    if module == GPT2:  # put back as a linear layer, [outputs, inputs]
        expected = expected.T
    return kept(case, module, root / "few", expected), json.loads((root / "few" / "config.json").read_text())["quantization_config"]


def of_compressed_tensors(case: str, root: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    form, args = COMPRESSED[case]
    base(LLAMA, root / "base")
    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**args), format=form)
    weights: dict[str, torch.Tensor] = {}
    for name, weight in load_file(root / "base" / "model.safetensors").items():
        if weight.ndim == 2 and ".layers." in name:
            made = BaseCompressor.get_value_from_registry(form).compress(with_scales(weight.float(), args), scheme)
            weights |= {name.removesuffix("weight") + part: tensor.contiguous() for part, tensor in made.items()}
        else:
            weights[name] = weight
    said = {"quant_method": "compressed-tensors", "format": form, "quantization_status": "compressed", "ignore": ["lm_head"]}
    said |= {"config_groups": {"group_0": {"targets": ["Linear"], "weights": args, "format": form}}}
    config = json.loads((root / "base" / "config.json").read_text())
    (root / "few").mkdir()
    save_file(weights, root / "few" / "model.safetensors", metadata={"format": "pt"})
    (root / "few" / "config.json").write_text(json.dumps(config | {"quantization_config": said}))
    whole = CompressedTensorsConfig(dequantize=True)
    network = AutoModelForCausalLM.from_pretrained(root / "few", dtype=torch.float32, quantization_config=whole)
    return kept(case, LLAMA, root / "few", network.get_parameter(f"{LLAMA}weight")), said


def with_scales(weight: torch.Tensor, args: dict[str, Any]) -> dict[str, torch.Tensor]:
    """What an observer would have found."""
    groups = in_groups(weight, args)
    if not args["symmetric"]:
        low, high, steps = groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0), 2 ** args["num_bits"] - 1
        scale = (high - low) / steps
        zero = (-low / scale - (steps + 1) // 2).round().to(torch.int8)
        return {"weight": weight, "weight_scale": scale, "weight_zero_point": zero}
    largest = 2 ** (args["num_bits"] - 1) - 0.5 if args["type"] == "int" else 448 if args["num_bits"] == 8 else 6
    scale = groups.abs().amax(-1) / largest
    if args["strategy"] == "tensor_group":
        over = (448 * 6 / weight.abs().max()).reshape(1)
        return {"weight": weight, "weight_scale": (scale * over).to(torch.float8_e4m3fn).float(), "weight_global_scale": over}
    if args["type"] == "float" and args["strategy"] == "group":  # a power of two
        scale = torch.log2(scale).ceil().exp2()
    return {"weight": weight, "weight_scale": scale.reshape(1) if args["strategy"] == "tensor" else scale}


def in_groups(weight: torch.Tensor, args: dict[str, Any]) -> torch.Tensor:
    rows, columns = weight.shape
    if args["strategy"] == "block":
        tall, wide = args["block_structure"]
        down, across = -(-rows // tall), -(-columns // wide)
        padded = torch.zeros(down * tall, across * wide)
        padded[:rows, :columns] = weight
        return padded.view(down, tall, across, wide).transpose(1, 2).flatten(2)
    if args["strategy"] == "tensor":
        return weight.view(1, 1, -1)
    return weight.view(rows, -1, args.get("group_size", columns))


def main() -> None:
    tensors: dict[str, torch.Tensor] = {}
    said: dict[str, str] = {}
    for case in (*BNB, *COMPRESSED):
        with tempfile.TemporaryDirectory() as root:
            made, config = (of_bitsandbytes if case in BNB else of_compressed_tensors)(case, Path(root))
        tensors |= made
        said[case] = json.dumps(config)
    save_file(tensors, Path(__file__).with_name("quantized.safetensors"), metadata=said)


if __name__ == "__main__":
    main()
