"""What a model's config.json says of weights stored in few bits. Asked by the plan and, of the same file, by preparation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KEYS = ("quantization_config", "compression_config", "quantization")
"""Where config.json files say it: transformers' key, an older one of compressed-tensors, and MLX's."""

PLAIN_FORMATS = ("float-quantized", "int-quantized", "naive-quantized")
"""compressed-tensors formats of one number a weight, with its scales beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """How the files of a model hold its matrices."""

    method: str
    """As config.json names it, such as fp8 or bitsandbytes 4 bits."""

    readable: bool
    """Whether weight times scale gives the matrices back."""

    block: tuple[int, int] | None = None
    """Rows and columns that share a scale, where config.json says so."""

    @property
    def refusal(self) -> tuple[str, str]:
        """Rule and way out where they cannot be read."""
        rule = f"its config.json says that the weights are stored as {self.method}, which no engine trains"
        return rule, "Name the model that it was made from, in fp32, bf16, fp16, or fp8 with scales"


def quantized(config: Mapping[str, Any]) -> Quantized | None:
    """None where the weights are stored as they are computed with."""
    found = next((config[key] for key in KEYS if config.get(key)), None)
    if found is None:
        return None
    if not isinstance(found, Mapping):
        return Quantized(method=str(found)[:80], readable=False)
    return Quantized(method=_method(found), readable=_readable(found), block=_block(found))


def without_quantization(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json of the same model with whole weights."""
    return {key: value for key, value in config.items() if key not in KEYS}


def _method(found: Mapping[str, Any]) -> str:
    named = str(found.get("quant_method") or found.get("mode") or "")[:80]
    if found.get("load_in_4bit") or found.get("load_in_8bit"):
        return f"{named or 'bitsandbytes'} {4 if found.get('load_in_4bit') else 8} bits"
    detail = str(found.get("format") or found.get("quant_algo") or (f"{found['bits']} bits" if found.get("bits") else ""))[:80]
    return " ".join(part for part in (named, detail) if part) or "a method without a name"


def _readable(found: Mapping[str, Any]) -> bool:
    method = found.get("quant_method")
    if method in ("fp8", "fbgemm_fp8"):
        return found.get("fmt", "e4m3") in ("e4m3", "e5m2", "float8_e4m3fn")
    if method != "compressed-tensors" or found.get("format") not in PLAIN_FORMATS:
        return False
    sparsity = found.get("sparsity_config")
    dense = not sparsity or (isinstance(sparsity, Mapping) and sparsity.get("format", "dense") == "dense")
    return dense and found.get("quantization_status", "compressed") == "compressed"


def _block(found: Mapping[str, Any]) -> tuple[int, int] | None:
    given = found.get("weight_block_size")
    if not isinstance(given, list | tuple) or len(given) != 2 or not all(type(part) is int and part > 0 for part in given):
        return None
    return given[0], given[1]
