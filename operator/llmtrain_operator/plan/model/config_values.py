"""Values of a config.json, other than sizes, that transformers accepts for the supported families.

Other values would end preparation, or the ranks, with a Python exception. A test compares the lists with transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import inf
from typing import Any

from llmtrain_operator.manifest.numerals import meanings
from llmtrain_operator.manifest.problem import cut
from llmtrain_operator.manifest.suggestions import either, shown
from llmtrain_operator.plan.model.shape import ModelShape

Wrong = tuple[str, str, str, str]
"""Key, value, rule, way out."""

ACTIVATIONS = (
    *("gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_python_tanh", "gelu_pytorch_tanh", "hardswish"),
    *("laplace", "leaky_relu", "linear", "mish", "prelu", "quick_gelu", "relu", "relu2", "relu6", "sigmoid", "silu", "sqrtsoftplus"),
    *("swish", "tanh", "xielu"),
)
ROPE: Mapping[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
    "longrope": ("short_factor", "long_factor"),
    "proportional": (),
}
"""RoPE type -> required keys of its mapping."""

_ASK_FOR_HEAD = ("dynamic", "yarn", "longrope")
"""RoPE types whose frequencies transformers computes from head_dim, which is null in the config of a mixtral."""

DTYPES = ("float32", "float16", "bfloat16", "float64", "float", "half", "double", "float8_e4m3fn", "float8_e5m2", "auto")
LAYER_TYPES = ("full_attention", "sliding_attention")
LONGEST_HEAD_OF_TESTS = 4
"""Largest head width that may be odd: the tests of transformers have such heads."""

_WITH_POINT = "it must be a number with a decimal point, such as 1.0e-06"
_FLAG = "it must be true or false"
_SHARE = "it must be a number"
_SHARE_OR_NULL = "it must be a number or null"
_WINDOW = "it must be a whole number or null"
_COUNT = "it must be a whole number"
_TOKEN = "it must be a token id or null"
_TOKENS = "it must be a token id, a list of them or null"


def _is_int(value: Any) -> bool:
    return type(value) is int


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


_TAKES: Mapping[str, Callable[[Any], bool]] = {
    _WITH_POINT: lambda value: type(value) is float,
    _FLAG: lambda value: type(value) is bool,
    _SHARE: _is_number,
    _SHARE_OR_NULL: lambda value: value is None or _is_number(value),
    _WINDOW: lambda value: value is None or _is_int(value),
    _COUNT: _is_int,
    _TOKEN: lambda value: value is None or _is_int(value),
    _TOKENS: lambda value: value is None or _is_int(value) or (isinstance(value, list) and all(map(_is_int, value))),
}
_WITHOUT = (-inf, inf, "")
_FROM_ZERO = (0.0, inf, "it must be 0 or more")
_PART = (0.0, 1.0, "it must be from 0 to 1")
BOUNDS: Mapping[str, tuple[float, float, str]] = {
    **dict.fromkeys(("rms_norm_eps", "layer_norm_epsilon", "router_aux_loss_coef", "router_jitter_noise"), _FROM_ZERO),
    **dict.fromkeys(("attention_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "initializer_range"), _PART),
    "sliding_window": (1, inf, "it must be 1 or more, or null"),
}
"""Key -> least and greatest value, and the rule. Beyond them ranks end, or train on what is no number."""

_EVERY = {
    "initializer_range": _WITH_POINT,
    "use_cache": _FLAG,
    "bos_token_id": _TOKEN,
    "pad_token_id": _TOKEN,
    "eos_token_id": _TOKENS,
}
_ROTARY = {**_EVERY, "rms_norm_eps": _WITH_POINT, "attention_dropout": _SHARE, "max_position_embeddings": _COUNT}
_WINDOWED = {**_ROTARY, "sliding_window": _WINDOW}
_MIXTURE = {**_WINDOWED, "output_router_logits": _FLAG, "router_aux_loss_coef": _WITH_POINT}
TYPES: Mapping[str, Mapping[str, str]] = {
    "llama": _ROTARY | {"attention_bias": _FLAG, "mlp_bias": _FLAG, "attention_dropout": _SHARE_OR_NULL},
    "mistral": _WINDOWED,
    "qwen2": _WINDOWED | {"use_sliding_window": _FLAG},
    "qwen3": _WINDOWED | {"attention_bias": _FLAG, "use_sliding_window": _FLAG},
    "mixtral": _MIXTURE | {"router_jitter_noise": _WITH_POINT},
    "qwen2_moe": _MIXTURE | {"norm_topk_prob": _FLAG, "qkv_bias": _FLAG, "use_sliding_window": _FLAG},
    "qwen3_moe": _MIXTURE | {"norm_topk_prob": _FLAG, "attention_bias": _FLAG, "use_sliding_window": _FLAG},
    "gpt2": _EVERY
    | dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), _SHARE)
    | dict.fromkeys(("scale_attn_weights", "scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn", "add_cross_attention"), _FLAG)
    | {"layer_norm_epsilon": _WITH_POINT},
}
"""Family -> key -> rule of its value, where a family has keys of its own."""

ANY = _EVERY | dict.fromkeys(("rms_norm_eps", "layer_norm_eps", "norm_eps", "norm_epsilon"), _WITH_POINT) | {"sliding_window": _WINDOW}
"""Of every other family; preparation asks transformers about the rest."""


def wrong_values(config: Mapping[str, Any], shape: ModelShape) -> Iterator[Wrong]:
    """Every value that transformers would refuse in a config.json whose sizes are valid."""
    rotary = not shape.learned_positions
    wrong_types = list(_types(config, shape.model_type))
    yield from wrong_types
    yield from _bounds(config, shape, {key for key, *_ in wrong_types})
    yield from _activation(config, "hidden_act" if rotary else "activation_function")
    yield from _dtypes(config)
    if rotary:
        yield from _rope(config, shape)
        yield from _layer_types(config, shape.layers)
    elif given := next((key for key in ("rope_scaling", "rope_parameters") if config.get(key)), None):
        yield given, shown(config[given]), f"model_type {shape.model_type} has learned positions and no RoPE", "Leave it out"
    if shape.experts and shape.experts_per_token > shape.experts:
        rule = f"it must not exceed the number of experts ({shape.experts})"
        yield "num_experts_per_tok", str(shape.experts_per_token), rule, f"Use at most {shape.experts}"


def _types(config: Mapping[str, Any], model_type: str) -> Iterator[Wrong]:
    for key, rule in TYPES.get(model_type, ANY).items():
        if key in config and not _TAKES[rule](config[key]):
            yield key, shown(config[key]), rule, _meant(config[key], rule)


def _bounds(config: Mapping[str, Any], shape: ModelShape, told: set[str]) -> Iterator[Wrong]:
    unused = {"sliding_window"} if shape.traits.window is None else set()
    for key in sorted(TYPES.get(shape.model_type, ANY).keys() - told - unused):
        low, high, rule = BOUNDS.get(key, _WITHOUT)
        value = config.get(key)
        if rule and value is not None and not low <= value <= high:
            yield key, shown(value), rule, "Write it as in the model's config.json, or leave it out"
    pad = config.get("pad_token_id")
    if isinstance(pad, int) and not -shape.vocab <= pad < shape.vocab:
        yield "pad_token_id", str(pad), f"the embedding has {shape.vocab} rows", "Write the id of a token, or null"


def _meant(value: Any, rule: str) -> str:
    """The way out. The usual mistakes are a number without a decimal point, or in quotes."""
    if rule == _WITH_POINT and _is_int(value) and value >= 0:
        return f"Write {float(value)}"
    if isinstance(value, str) and (found := next((each for each in meanings(value) if _TAKES[rule](each)), None)) is not None:
        return f"Write {shown(found)} without quotes"
    return "Write it as in the model's config.json"


def _activation(config: Mapping[str, Any], key: str) -> Iterator[Wrong]:
    if key in config and config[key] not in ACTIVATIONS:
        yield key, shown(config[key]), f"it must be {either(list(ACTIVATIONS))}", "Write one of these"


def _dtypes(config: Mapping[str, Any]) -> Iterator[Wrong]:
    for key in ("dtype", "torch_dtype"):
        value = config.get(key)
        if isinstance(value, str) and value.removeprefix("torch.") not in DTYPES:
            yield key, shown(value), "it must be a number format of torch", "Write bfloat16, float16 or float32"


def _rope(config: Mapping[str, Any], shape: ModelShape) -> Iterator[Wrong]:
    if shape.head_dim % 2 and shape.head_dim > LONGEST_HEAD_OF_TESTS:
        yield (
            "head_dim",
            str(shape.head_dim),
            "with RoPE the width of a head must be even",
            "Change hidden_size, num_attention_heads or head_dim",
        )
    if "rope_theta" in config and not _above_zero(config["rope_theta"]):
        yield "rope_theta", shown(config["rope_theta"]), "it must be a number above 0", "Write 10000.0, or the value of the model"
    name = "rope_scaling" if config.get("rope_scaling") else "rope_parameters"
    found = config.get(name) or {}
    if not isinstance(found, Mapping):
        yield name, shown(found), "it must be a mapping with rope_type", "Leave it out, or write it as in the model's config.json"
        return
    nested = {f"{name}.{key}": value for key, value in found.items() if isinstance(value, Mapping)}
    for path, one in (nested or {name: found}).items():
        yield from _rope_of(path, one, shape, has_head_dim=bool(config.get("head_dim")))


def _rope_of(path: str, one: Mapping[str, Any], shape: ModelShape, *, has_head_dim: bool) -> Iterator[Wrong]:
    key = "rope_type" if "rope_type" in one else "type"
    kind = one.get(key, "default")
    if not isinstance(kind, str) or kind not in ROPE:
        near = {"su": "longrope", "ntk": "dynamic"}.get(str(kind))
        way_out = f"Write {near}, with its keys" if near else "Leave it out, or use a model with one of these"
        yield f"{path}.{key}", shown(kind), f"it must be {either(list(ROPE))}", way_out
        return
    if kind in _ASK_FOR_HEAD and shape.model_type == "mixtral" and not has_head_dim:
        way_out = f"Give head_dim: {shape.head_dim}"
        yield "head_dim", "missing", f"for a mixtral, rope_type {kind} needs it", way_out
    for part in ROPE[kind]:
        yield from _rope_part(f"{path}.{part}", one.get(part), kind, shape)
    for part in ("rope_theta", "original_max_position_embeddings"):
        if one.get(part) is not None and not _above_zero(one[part]):
            yield f"{path}.{part}", shown(one[part]), "it must be a number above 0", "Write it as in the model's config.json"


def _rope_part(path: str, value: Any, kind: str, shape: ModelShape) -> Iterator[Wrong]:
    way_out = "Write it as in the model's config.json, or leave the mapping out"
    given = "missing" if value is None else shown(value)
    if kind != "longrope":
        if not _above_zero(value):
            yield path, given, f"{kind} needs a number above 0", way_out
        return
    pairs = int(shape.head_dim * shape.traits.partial_rotary) // 2
    if not isinstance(value, list) or len(value) != pairs or not all(map(_above_zero, value)):
        yield path, cut(given), f"longrope needs a list of {pairs} numbers, one for each pair of rotated values of a head", way_out


def _above_zero(value: Any) -> bool:
    return _is_number(value) and value > 0


def _layer_types(config: Mapping[str, Any], layers: int) -> Iterator[Wrong]:
    value = config.get("layer_types")
    if value is None:
        return
    if not isinstance(value, list) or len(value) != layers:
        yield "layer_types", shown(value), f"it must be a list with one entry for each of the {layers} layers", "Leave it out"
    elif odd := [each for each in value if each not in LAYER_TYPES]:
        yield (
            "layer_types",
            shown(odd[0]),
            f"each entry must be {either(list(LAYER_TYPES))}",
            "Leave layer_types out, or use a model of these",
        )
