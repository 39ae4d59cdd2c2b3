"""A small Qwen3 with its tokenizer: whole, in fp8 with blocks as Qwen publishes it, in int8 as compressed-tensors does, in 8 bits of GPTQ,
without a word of its scales, and said to be of hqq."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

torch.manual_seed(0)
here = Path()
Qwen3ForCausalLM(
    Qwen3Config(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=128,
        initializer_range=0.1,
    )
).save_pretrained(here / "whole")
alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
backend = Tokenizer(models.BPE({token: number for number, token in enumerate([*alphabet, "<|end|>"])}, []))
backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>").save_pretrained(here / "whole")
BLOCK = 16
SAID = {
    "fp8": {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [BLOCK, BLOCK]},
    "int8": {"quant_method": "compressed-tensors", "format": "int-quantized", "quantization_status": "compressed"},
    "unspoken": None,
    "gptq": {"quant_method": "gptq", "bits": 8, "group_size": 16},
    "hqq": {"quant_method": "hqq", "bits": 4},
}


def stored(name: str, weight: torch.Tensor, kind: str) -> dict[str, torch.Tensor]:
    if weight.ndim != 2 or "layers" not in name:
        return {name: weight}
    if kind == "int8":
        scale = weight.abs().amax(1, keepdim=True) / 127
        return {name: (weight / scale).round().to(torch.int8), f"{name}_scale": scale}
    if kind == "gptq":
        return gptq(name.removesuffix("weight"), weight)
    rows, columns = (-(-size // BLOCK) for size in weight.shape)
    padded = torch.zeros(rows * BLOCK, columns * BLOCK)
    padded[: weight.shape[0], : weight.shape[1]] = weight
    scale = padded.view(rows, BLOCK, columns, BLOCK).abs().amax((1, 3)) / 448
    spread = scale.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)[: weight.shape[0], : weight.shape[1]]
    return {name: (weight / spread).to(torch.float8_e4m3fn), f"{name}_scale_inv": scale}


def gptq(module: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """Symmetric: each zero point is 128, stored less one; four numbers a word."""
    scales = weight.unflatten(1, (-1, BLOCK)).abs().amax(2).T / 127
    numbers = (weight / scales.T.repeat_interleave(BLOCK, 1)).round().to(torch.int16) + 128
    words = numbers.to(torch.uint8).contiguous().view(torch.int32).T
    zeros = torch.full((scales.shape[0], len(weight)), 127, dtype=torch.uint8).view(torch.int32)
    return {f"{module}qweight": words.contiguous(), f"{module}qzeros": zeros, f"{module}scales": scales.contiguous()}


for kind, said in SAID.items():
    shutil.copytree(here / "whole", here / kind)
    config = json.loads((here / kind / "config.json").read_text())
    (here / kind / "config.json").write_text(json.dumps(config | ({"quantization_config": said} if said else {})))
    parts: dict[str, torch.Tensor] = {}
    for name, weight in load_file(here / "whole" / "model.safetensors").items():
        parts |= stored(name, weight, kind)
    save_file(parts, here / kind / "model.safetensors", metadata={"format": "pt"})
texts = [f"The model reads line {number} and tells what comes next." for number in range(60)]
(here / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
