"""Labels of documents: the loss counts documents, and accuracy those whose label is the likeliest."""

from __future__ import annotations

import pytest
import torch

from llmtrain_trainer.objectives.classification import Classification

LABELS = torch.tensor([[-100, 2, -100], [-100, -100, 0], [-100, -100, -100]])


def test_the_loss_is_the_sum_over_documents_and_reads_the_token_of_the_label_alone() -> None:
    logits = torch.randn(3, 3, 4)
    loss = Classification().loss(logits.clone(), {"labels": LABELS})
    expected = -(torch.log_softmax(logits[0, 1], 0)[2] + torch.log_softmax(logits[1, 2], 0)[0])
    assert loss.sum.item() == pytest.approx(float(expected), abs=1e-6)
    assert loss.targets.item() == 2
    others = torch.where(LABELS.unsqueeze(-1) == -100, torch.randn(3, 3, 4), logits)
    assert Classification().loss(others, {"labels": LABELS}).sum.item() == pytest.approx(loss.sum.item(), abs=1e-6)


def test_accuracy_counts_the_documents_whose_label_is_the_likeliest() -> None:
    logits = torch.zeros(3, 3, 4)
    logits[0, 1, 2] = logits[1, 2, 3] = 1.0
    assert Classification().loss(logits, {"labels": LABELS}).metrics["accuracy"].item() == 1.0
    logits[1, 2, 0] = 2.0
    assert Classification().loss(logits, {"labels": LABELS}).metrics["accuracy"].item() == 2.0


def test_rows_that_fill_up_a_batch_count_nothing() -> None:
    loss = Classification().loss(torch.randn(1, 3, 4), {"labels": LABELS[2:]})
    assert (loss.sum.item(), loss.targets.item(), loss.metrics["accuracy"].item()) == (0.0, 0, 0.0)
