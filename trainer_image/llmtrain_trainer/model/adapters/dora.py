"""DoRA (Liu et al., 2024): a LoRA adapter that turns each row of a weight, and a trained magnitude that sets its length."""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import LoraLayer

MAGNITUDE = ".lora_magnitude_vector.default.weight"
"""Ending of the magnitudes' names, after the name of their layer."""


@torch.no_grad()
def begin(layer: LoraLayer, name: str) -> None:
    """Set the magnitudes [out] of a layer to the lengths of its rows, so that training starts from the base model's weights.

    name: of the layer in the model. Raises ValueError for rows of zeros: they have no direction, and the loss would be NaN.
    """
    made: Any = layer
    for adapter, magnitude in made.lora_magnitude_vector.items():
        low_rank = made.lora_B[adapter].weight @ made.lora_A[adapter].weight
        magnitude.weight.copy_(magnitude.get_weight_norm(made.get_base_layer().weight, low_rank, made.scaling[adapter]))
        if zeros := int((magnitude.weight == 0).sum()):
            rows = magnitude.weight.numel()
            raise ValueError(
                f"spec.peft.method is dora: {zeros} of {rows} rows of {name}.weight are zeros, which have no direction. "
                f"Use method: lora, or leave {name.rpartition('.')[2]} out of peft.targetModules."
            )


def folded(weight: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
    """The weight [out, in], base and update added, with rows of the lengths `magnitude` [out]."""
    lengths: torch.Tensor = torch.linalg.norm(weight, dim=1)
    return weight * (magnitude / lengths).unsqueeze(1)
