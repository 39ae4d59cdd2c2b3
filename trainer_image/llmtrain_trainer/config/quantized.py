"""What a model's config.json says about quantized weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Way = Literal["scaled", "bnb_4bit", "bnb_8bit", "packed", "fp4", "gptq", "awq", "affine"]
"""How a matrix is stored: one number per weight with scales beside it; bitsandbytes in 4 and 8 bits; integers packed into words, and two
4-bit floats per byte, both of compressed-tensors; GPTQ; AWQ; integers with a scale and a bias per group, of MLX."""

KEYS = ("quantization_config", "compression_config", "quantization")
"""Keys of config.json: transformers', an older one of compressed-tensors, and MLX's."""

FORMATS: Mapping[str, tuple[Way, ...]] = {
    "float-quantized": ("scaled",),
    "int-quantized": ("scaled",),
    "naive-quantized": ("scaled",),
    "mxfp8-quantized": ("scaled",),
    "pack-quantized": ("packed",),
    "nvfp4-pack-quantized": ("fp4",),
    "mxfp4-pack-quantized": ("fp4",),
    "dense": (),
}
"""Of compressed-tensors."""

AUTO_ROUND: Mapping[str, Way] = {
    "auto_round": "gptq",
    "auto_round:gptqmodel": "gptq",
    "auto_round:auto_gptq": "gptq",
    "auto_round:auto_awq": "awq",
}
"""The method whose layout AutoRound's files have, by their packing_format."""

READ = "fp32, bf16, fp16, fp8, bitsandbytes, GPTQ, AWQ, or compressed-tensors"
"""Formats that can be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """How the files of a model store its matrices."""

    method: str
    """As config.json names it, such as fp8 or bitsandbytes 4 bits."""

    ways: tuple[Way, ...] = ()
    """The storage kinds that the matrices may have; empty: they cannot be read."""

    block: tuple[int, int] | None = None
    """Rows and columns that share a scale, where config.json says so."""

    group: int | None = None
    """Inputs that share a scale; None: all, or the files say it."""

    zeros_less_one: bool = False
    """GPTQ's first format stores each zero point less one."""

    @property
    def readable(self) -> bool:
        """Whether the matrices can be dequantized."""
        return bool(self.ways)

    @property
    def refusal(self) -> tuple[str, str]:
        """Rule and way out if they cannot be read."""
        rule = f"its config.json says that the weights are stored as {self.method}, which no engine trains"
        return rule, f"Name the model that it was made from, or a version of it in {READ}"


def quantized(config: Mapping[str, Any]) -> Quantized | None:
    """None if the weights are not quantized."""
    key = next((key for key in KEYS if config.get(key)), None)
    if key is None:
        return None
    found = config[key]
    if not isinstance(found, Mapping):
        return Quantized(method=str(found)[:80])
    ways = _of_mlx(found) if key == "quantization" or "quant_method" not in found else _ways(found)
    return Quantized(
        method=_method(found),
        ways=ways,
        block=_block(found),
        group=_size(found.get("group_size", found.get("q_group_size", 64 if found.get("quant_method") == "metal" else None))),
        zeros_less_one=_zeros_less_one(found),
    )


def without_quantization(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json of the same model without quantization."""
    return {key: value for key, value in config.items() if key not in KEYS}


def _method(found: Mapping[str, Any]) -> str:
    named = str(found.get("quant_method") or found.get("mode") or "")[:80]
    if found.get("load_in_4bit") or found.get("load_in_8bit"):
        return f"{named or 'bitsandbytes'} {4 if found.get('load_in_4bit') else 8} bits"
    detail = str(found.get("format") or found.get("quant_algo") or (f"{found['bits']} bits" if found.get("bits") else ""))[:80]
    return " ".join(part for part in (named, detail) if part) or "a method without a name"


def _ways(found: Mapping[str, Any]) -> tuple[Way, ...]:
    """By transformers' methods. A setting that changes the meaning of the numbers makes the files unreadable."""
    match found.get("quant_method"):
        case "fp8" | "fbgemm_fp8" | "mxfp8":
            return ("scaled",) if found.get("fmt", "e4m3") in ("e4m3", "e5m2", "float8_e4m3fn") else ()
        case "bitsandbytes" | "bitsandbytes_4bit" | "bitsandbytes_8bit":
            return ("bnb_4bit", "bnb_8bit")
        case "gptq":
            return ("gptq",) if _format(found, "gptq") in ("gptq", "gptq_v2") else ()
        case "awq":
            return ("awq",) if _format(found, "gemm") == "gemm" and found.get("bits", found.get("w_bit", 4)) == 4 else ()
        case "auto-round":
            packing = AUTO_ROUND.get(str(found.get("packing_format")))
            return (packing,) if packing and found.get("act_bits") in (None, 16, 32) else ()
        case "metal":
            return ("affine",)
        case "compressed-tensors":
            return _of_compressed_tensors(found)
    return ()


def _zeros_less_one(found: Mapping[str, Any]) -> bool:
    if found.get("quant_method") == "auto-round":
        return found.get("packing_format") == "auto_round:auto_gptq"
    return _format(found, "gptq") == "gptq"


def _format(found: Mapping[str, Any], default: str) -> str:
    """Layout of the words; each library has its own key for it."""
    return str(found.get("checkpoint_format") or found.get("version") or found.get("format") or default).lower()


def _of_compressed_tensors(found: Mapping[str, Any]) -> tuple[Way, ...]:
    """Each group of layers may have its own format. Sparse weights and weights rotated by a transform are not read."""
    sparsity = found.get("sparsity_config")
    sparse = sparsity and not (isinstance(sparsity, Mapping) and sparsity.get("format", "dense") == "dense")
    if sparse or found.get("transform_config") or found.get("quantization_status", "compressed") != "compressed":
        return ()
    groups = found.get("config_groups")
    own = [group.get("format") for group in groups.values() if isinstance(group, Mapping)] if isinstance(groups, Mapping) else []
    named = {str(name) for name in own if name} or {str(found.get("format"))}
    if not named <= FORMATS.keys():
        return ()
    return tuple(dict.fromkeys(way for name in sorted(named) for way in FORMATS[name]))


def _of_mlx(found: Mapping[str, Any]) -> tuple[Way, ...]:
    """MLX names no method. A layer may have more or fewer bits than the others, which its files show, but the same group size."""
    if "group_size" not in found or "bits" not in found or found.get("mode", "affine") != "affine":
        return ()
    layers = [value for value in found.values() if isinstance(value, Mapping)]
    same = all(layer.get("group_size", found["group_size"]) == found["group_size"] for layer in layers)
    return ("affine",) if same and all(layer.get("mode", "affine") == "affine" for layer in layers) else ()


def _block(found: Mapping[str, Any]) -> tuple[int, int] | None:
    """The block size of all matrices; None if groups differ."""
    given = set(_blocks(found))
    return next(iter(given)) if len(given) == 1 else None


def _blocks(found: Mapping[str, Any]) -> Iterator[tuple[int, int]]:
    groups = found.get("config_groups")
    weights = [group.get("weights") for group in groups.values() if isinstance(group, Mapping)] if isinstance(groups, Mapping) else []
    for given in (found.get("weight_block_size"), *(each.get("block_structure") for each in weights if isinstance(each, Mapping))):
        if isinstance(given, list | tuple) and len(given) == 2 and all(_size(part) for part in given):
            yield given[0], given[1]


def _size(value: object) -> int | None:
    return value if type(value) is int and value > 0 else None
