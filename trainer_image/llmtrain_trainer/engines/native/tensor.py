"""Tensor parallelism by DTensor, from the plan that Hugging Face ships with a model."""

from __future__ import annotations

import re

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel, parallelize_module
from transformers import PreTrainedConfig, PreTrainedModel

COLUMN, ROW, HEAD, EMBEDDING, SUMMED = "colwise", "rowwise", "colwise_gather_output", "embedding_rowwise", "replicated_with_grad_allreduce"
EXPERTS = "moe_tp_experts"
"""Whole experts go to the ranks instead: see experts.py."""

STYLES = (COLUMN, ROW, HEAD, EMBEDDING, SUMMED, EXPERTS)


def styles(network: PreTrainedModel, tp: int) -> dict[str, str]:
    """Module name -> style, for every module of this network that the plan names and `tp` ranks split.

    A vocabulary that tp does not divide stays whole: every rank then holds the embedding and the output head, and computes the same with
    them. Raises ValueError where the model has no plan, or one with a style that this engine does not have.
    """
    plan: dict[str, str] = dict(network._tp_plan or {})
    kind = network.config.model_type
    if COLUMN not in plan.values():
        raise ValueError(f"model_type {kind} has no tensor-parallel plan: set tensor to 1")
    patterns = [(re.compile(re.escape(pattern).replace(r"\*", r"\d+")), style) for pattern, style in plan.items()]
    found: dict[str, str] = {}
    for name, _ in network.named_modules():
        for pattern, style in patterns:
            if pattern.fullmatch(name):
                found[name] = style
    for name, style in found.items():
        if style not in STYLES:
            raise ValueError(f"model_type {kind} splits {name} as {style}, which the native engine does not have: set tensor to 1")
    if network.config.vocab_size % tp:
        return {name: style for name, style in found.items() if style not in (HEAD, EMBEDDING)}
    return found


def check(config: PreTrainedConfig, tp: int) -> None:
    """Raises ValueError where tp does not divide what it always splits. config: the model's Hugging Face config."""
    for field in ("num_attention_heads", "num_key_value_heads", "intermediate_size"):
        value = getattr(config, field, None)
        if value is not None and value % tp:
            raise ValueError(f"model.{field} is {value}, which tensor {tp} does not divide: choose a tensor degree that does")


def split(network: PreTrainedModel, under: str, plan: dict[str, str], mesh: DeviceMesh) -> None:
    """Replace the weights below the module named `under` by their shards. The modules' inputs and outputs stay plain tensors.

    Every rank has the same weights by now and cuts its own part out: nothing is sent.
    """
    for name, style in plan.items():
        if name != under and not name.startswith(f"{under}."):
            continue
        module = network.get_submodule(name)
        for part, parallel in _parts(module, style).items():
            parallelize_module(network.get_submodule(f"{name}.{part}") if part else module, mesh, parallel, src_data_rank=None)


def _parts(module: nn.Module, style: str) -> dict[str, ParallelStyle]:
    """A layer with an adapter splits its factor next to the split side: a column layer lora_B, a row layer lora_A."""
    adapted = hasattr(module, "base_layer")
    if style == COLUMN:
        return {"base_layer": ColwiseParallel(), "lora_B.default": ColwiseParallel()} if adapted else {"": ColwiseParallel()}
    if style == ROW:
        return {"base_layer": RowwiseParallel(), "lora_A.default": RowwiseParallel()} if adapted else {"": RowwiseParallel()}
    if style == EMBEDDING and isinstance(module, nn.Embedding):
        return {"": RowwiseParallel(input_layouts=Replicate())}
    if style == HEAD and isinstance(module, nn.Linear):
        return {"": ColwiseParallel(output_layouts=Shard(-1), use_local_output=False)}
    return {}


def summed(network: PreTrainedModel, plan: dict[str, str]) -> set[str]:
    """Names of parameters that every rank holds whole but sees with its own heads only: their gradients are summed over tp."""
    names = [name for name, style in plan.items() if style == SUMMED]
    return {f"{name}.{key}" for name in names for key, _ in network.get_submodule(name).named_parameters()}
