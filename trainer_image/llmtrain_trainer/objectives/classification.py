"""Choose the label of a document: sequence classification of a decoder."""

from __future__ import annotations

import torch

from llmtrain_trainer.data.columns import LABELS, NO_TARGET
from llmtrain_trainer.objectives.cross_entropy import summed_cross_entropy
from llmtrain_trainer.objectives.objective import Batch, Head, Loss


class Classification:
    """Cross entropy of a document's label. labels [batch, length] hold it at the last token of the document, which alone has seen all
    of it, and NO_TARGET elsewhere: so it is found in every layout, also where sequences are split."""

    columns: tuple[str, ...] = (LABELS,)
    head: Head = "score"
    needs_reference = False
    metrics: tuple[str, ...] = ("accuracy",)

    def loss(self, outputs: torch.Tensor, batch: Batch) -> Loss:
        """outputs: logits [batch, length, labels]."""
        labels = batch[LABELS]
        right = (outputs.detach().argmax(-1) == labels).sum()  # before the loss, which may overwrite logits
        return Loss(summed_cross_entropy(outputs, labels), (labels != NO_TARGET).sum(), {"accuracy": right.float()})
