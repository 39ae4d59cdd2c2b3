"""Predict the next token: pretraining and supervised fine-tuning."""

from __future__ import annotations

import torch

from llmtrain_trainer.data.columns import LABELS, NO_TARGET
from llmtrain_trainer.objectives.cross_entropy import summed_cross_entropy
from llmtrain_trainer.objectives.objective import Batch, Head, Loss


class CausalLm:
    """Cross entropy of the token that follows; labels [batch, length] are already shifted."""

    columns: tuple[str, ...] = (LABELS,)
    head: Head = "causalLm"
    needs_reference = False
    metrics: tuple[str, ...] = ()

    def loss(self, outputs: torch.Tensor, batch: Batch) -> Loss:
        """outputs: logits [batch, length, vocabulary]."""
        labels = batch[LABELS]
        return Loss(summed_cross_entropy(outputs, labels), (labels != NO_TARGET).sum(), {})

    def loss_of_tokens(self, losses: torch.Tensor, batch: Batch) -> Loss:
        """losses: [batch, length], -log p(label)."""
        targets = batch[LABELS] != NO_TARGET
        return Loss((losses.float() * targets).sum(), targets.sum(), {})
