"""DoRA (Liu et al., 2024): a LoRA adapter that turns each row of a weight, and a trained magnitude that sets its length."""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import LoraLayer

MAGNITUDE = ".lora_magnitude_vector.default.weight"
"""Ending of the magnitudes' names, after the name of their layer."""


@torch.no_grad()
def begin(layer: LoraLayer) -> None:
    """Set the magnitudes [out] of a layer to the lengths of its rows, so that training starts from the base model's weights."""
    made: Any = layer
    for name, magnitude in made.lora_magnitude_vector.items():
        low_rank = made.lora_B[name].weight @ made.lora_A[name].weight
        magnitude.weight.copy_(magnitude.get_weight_norm(made.get_base_layer().weight, low_rank, made.scaling[name]))


def folded(weight: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
    """The weight [out, in], base and update added, with rows of the lengths `magnitude` [out]."""
    lengths: torch.Tensor = torch.linalg.norm(weight, dim=1)
    return weight * (magnitude / lengths).unsqueeze(1)
