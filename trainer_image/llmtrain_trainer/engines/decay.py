"""Weight decay: applied to matrices, not to norms and biases."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def decay_groups(parameters: Iterable[tuple[Any, int]], weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups of an optimizer, without empty ones. Each parameter comes with the number of dimensions of its whole weight."""
    whole = list(parameters)
    matrices = {"params": [parameter for parameter, dimensions in whole if dimensions >= 2], "weight_decay": weight_decay}
    others = {"params": [parameter for parameter, dimensions in whole if dimensions < 2], "weight_decay": 0.0}
    return [group for group in (matrices, others) if group["params"]]
