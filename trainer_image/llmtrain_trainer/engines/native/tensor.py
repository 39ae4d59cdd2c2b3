"""Tensor parallelism by DTensor, from the plan that Hugging Face ships with a model."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel, parallelize_module
from transformers import PreTrainedConfig, PreTrainedModel

from llmtrain_trainer.config.tables.families import family_named
from llmtrain_trainer.engines.native.collectives import copy_to_group
from llmtrain_trainer.model.stage import parts_of

COLUMN, ROW, EMBEDDING, SUMMED = "colwise", "rowwise", "embedding_rowwise", "replicated_with_grad_allreduce"
GATHERED, SCATTERED = "colwise_gather_output", "rowwise_split_input"
"""A column layer with an all-gathered output, and a row layer that splits a replicated input."""

HEAD = "head"
"""The LM head, GATHERED in transformers' plan: here its logits stay split over the vocabulary, and the loss is computed on them."""

EXPERTS = "moe_tp_experts"
"""Not split: experts are distributed over the ranks instead, see experts.py."""

LATENT = "mla_kv_a_proj"
"""A replicated layer whose last outputs are keys shared by all heads: each rank uses them with its own heads only."""

STYLES = (LATENT, COLUMN, ROW, GATHERED, SCATTERED, EMBEDDING, SUMMED, EXPERTS)


def styles(network: PreTrainedModel, tp: int) -> dict[str, str]:
    """Module name -> style, for every module of this network that the plan names and `tp` ranks split.

    A vocabulary that tp does not divide stays whole: every rank then holds the embedding and the output head, and computes the same with
    them. Raises ValueError where the model has no plan, or one with a style that this engine does not have.
    """
    kind, plan = network.config.model_type, _plan(network)
    if COLUMN not in plan.values() and GATHERED not in plan.values():
        raise ValueError(f"model_type {kind} has no tensor-parallel plan: set tensor to 1")
    patterns = [(re.compile(re.escape(pattern).replace(r"\*", r"\d+")), style) for pattern, style in plan.items()]
    head, found = network.get_output_embeddings(), dict[str, str]()
    for name, module in network.named_modules():
        for pattern, style in patterns:
            if pattern.fullmatch(name):
                found[name] = HEAD if module is head else style
    for name, style in found.items():
        if style not in (*STYLES, HEAD):
            raise ValueError(f"model_type {kind} splits {name} as {style}, which the native engine does not have: set tensor to 1")
    if network.config.vocab_size % tp:
        return {name: style for name, style in found.items() if style not in (HEAD, EMBEDDING)}
    return found


def _plan(network: PreTrainedModel) -> dict[str, str]:
    """transformers' plan, with the family's own of the layers where it has one."""
    whole: dict[str, str] = dict(network._tp_plan or {})
    own = family_named(network.config.model_type).plan
    if own is None:
        return whole
    layers = f"{network.base_model_prefix}.{parts_of(network, 1).layers}.*"
    ends = {name: style for name, style in whole.items() if "*" not in name}
    return ends | {f"{layers}.{name}": style for name, style in own.items()}


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
        if style == LATENT:
            module.register_forward_hook(partial(_shared_keys, mesh.get_group(), network.config.qk_rope_head_dim))
        if style in (COLUMN, GATHERED) and getattr(network.config, family_named(network.config.model_type).in_place, None):
            module.register_forward_hook(_copied)


def _shared_keys(group: dist.ProcessGroup, width: int, _: nn.Module, __: Any, output: torch.Tensor) -> torch.Tensor:
    narrow, keys = output[..., :-width], output[..., -width:]
    return torch.cat([narrow, copy_to_group(keys, group)], -1)


def _copied(_: nn.Module, __: Any, output: torch.Tensor) -> torch.Tensor:
    return output.clone()


def _parts(module: nn.Module, style: str) -> dict[str, ParallelStyle]:
    """A layer with an adapter splits its factor next to the split side: a column layer lora_B, a row layer lora_A."""
    adapted = hasattr(module, "base_layer")
    if style in (COLUMN, GATHERED):
        column = ColwiseParallel(output_layouts=Replicate()) if style == GATHERED else ColwiseParallel()
        return {"base_layer": column, "lora_B.default": column} if adapted else {"": column}
    if style in (ROW, SCATTERED):
        row = RowwiseParallel(input_layouts=Replicate()) if style == SCATTERED else RowwiseParallel()
        return {"base_layer": row, "lora_A.default": row} if adapted else {"": row}
    if style == EMBEDDING and isinstance(module, nn.Embedding):
        return {"": RowwiseParallel(input_layouts=Replicate())}
    if style == HEAD and isinstance(module, nn.Linear):
        return {"": ColwiseParallel(output_layouts=Shard(-1), use_local_output=False)}
    return {}


def partial_over_tp(network: PreTrainedModel, plan: dict[str, str]) -> set[str]:
    """Names of parameters that every rank holds whole but sees with its own heads only: their gradients are summed over tp."""
    names = [name for name, style in plan.items() if style == SUMMED]
    return {f"{name}.{key}" for name in names for key, _ in network.get_submodule(name).named_parameters()}
