"""Weights for a model built on the meta device, module by module: read by name, or drawn from the seed.

What a weight is drawn from is (training.seed, name of its module): no layout changes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel

from llmtrain_trainer.config.tables.adapters import is_adapter
from llmtrain_trainer.model.adapters import dora
from llmtrain_trainer.model.pretrained import Pretrained
from llmtrain_trainer.model.stage import saved_buffers

ADAPTER = Path("adapter", "adapter_model.safetensors")
"""Below a model directory: adapters in peft's format that the model starts with: of a conversion. Training begins with new ones."""


def read_adapter(model_dir: Path) -> dict[str, torch.Tensor]:
    """The adapters to start with, by the names of the model's weights; empty where there are none."""
    file = model_dir / ADAPTER
    stored = load_file(file) if file.exists() else {}
    return {_in_model(name): weight for name, weight in stored.items()}


def _in_model(name: str) -> str:
    """peft leaves out the name of the adapter."""
    inner = name.removeprefix("base_model.model.").replace(".lora_A.", ".lora_A.default.").replace(".lora_B.", ".lora_B.default.")
    return f"{inner}.default.weight" if inner.endswith(".lora_magnitude_vector") else inner


def seed_of(*parts: object) -> int:
    """A seed of 63 bits from what names the draw."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def materialize(
    network: PreTrainedModel,
    under: str,
    weights: Pretrained | None,
    seed: int,
    device: torch.device,
    skip: Collection[str] = (),
    adapter: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Give storage and values to every module below the module named `under` ("" is all), but those below a name in `skip`.

    Children come before their parents, as in Hugging Face's own initialisation, where a parent may draw a child's weight again.
    `adapter`: what `read_adapter` found. Raises ValueError where a weight is in none of the files.
    """
    root = network.get_submodule(under)
    for name, module in reversed(list(root.named_modules(prefix=under))):
        if any(name == other or name.startswith(f"{other}.") for other in skip):
            continue
        module.to_empty(device=device, recurse=False)
        _fill(network, name, module, weights, seed)
        if adapter and isinstance(module, LoraLayer):
            _set(name, module, adapter)


@torch.no_grad()
def _fill(network: PreTrainedModel, name: str, module: nn.Module, weights: Pretrained | None, seed: int) -> None:
    adapter, drawn = is_adapter(name), weights is None or weights.lacks(name)
    if weights is not None and not (adapter or drawn):
        for key, parameter in (*module.named_parameters(prefix=name, recurse=False), *saved_buffers(module, name)):
            found = weights.read(key)
            if found.shape != parameter.shape:  # one that could be broadcast would be, silently
                raise ValueError(f"weight {key} has shape {list(found.shape)} in its files, where the model has {list(parameter.shape)}")
            parameter.copy_(found)
            parameter._is_hf_initialized = True  # type: ignore[attr-defined]  # what _init_weights draws for a module's buffers leaves it
    torch.manual_seed(seed_of(seed, name.replace(".base_layer", "")))
    if isinstance(module, LoraLayer):
        module.reset_lora_parameters("default", True)
        dora.begin(module, name)
    elif not adapter and (drawn or next(module.buffers(recurse=False), None) is not None):
        network._init_weights(module)


@torch.no_grad()
def _set(name: str, module: nn.Module, adapter: Mapping[str, torch.Tensor]) -> None:
    for key, parameter in module.named_parameters(prefix=name):
        if is_adapter(key):
            if key not in adapter or adapter[key].shape != parameter.shape:
                raise ValueError(
                    f"adapter {key} of {list(parameter.shape)} is not what the files hold: check peft.rank and peft.targetModules"
                )
            parameter.copy_(adapter[key])
