"""Rows that an embedding lacks for tokens added to a pretrained model's tokenizer: the mean of those that it has.

Preparation says how many beside the model's files; they are added as weights are read, for every engine and layout alike.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch

FILE = "new_rows.json"


@dataclass(frozen=True, slots=True)
class NewRows:
    """Names of the embedding and of the output head, in the model's own naming, and how many rows they have in the end."""

    weights: tuple[str, ...]
    rows: int

    @classmethod
    def of(cls, directory: Path) -> NewRows:
        """Without names where preparation added none."""
        file = directory / FILE
        if not file.exists():
            return cls((), 0)
        found = json.loads(file.read_text())
        return cls(tuple(found["weights"]), int(found["rows"]))

    def text(self) -> str:
        """For FILE."""
        return json.dumps({"weights": self.weights, "rows": self.rows}) + "\n"

    def added(self, name: str, weight: torch.Tensor) -> torch.Tensor:
        """The weight [rows, width] with the rows that it lacks."""
        lacking = self.rows - weight.shape[0]
        if name not in self.weights or lacking <= 0:
            return weight
        mean = weight.float().mean(0).to(weight.dtype)
        return torch.cat([weight, mean.expand(lacking, -1)])
