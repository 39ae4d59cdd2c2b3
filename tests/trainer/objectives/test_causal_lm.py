"""Next tokens: logits and cross entropies of tokens give the same loss."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from llmtrain_trainer.config.tables.tasks import Task
from llmtrain_trainer.objectives import OBJECTIVES
from llmtrain_trainer.objectives.causal_lm import CausalLm

LABELS = torch.tensor([[3, -100, 1], [-100, -100, 0]])


def test_every_task_of_the_contract_has_an_objective() -> None:
    assert set(OBJECTIVES) == set(get_args(Task))


def test_the_loss_is_the_sum_over_the_targets_and_says_how_many_they_are() -> None:
    logits = torch.randn(2, 3, 5)
    loss = CausalLm().loss(logits, {"labels": LABELS})
    expected = -sum(torch.log_softmax(logits[row, at], 0)[LABELS[row, at]] for row, at in ((0, 0), (0, 2), (1, 2)))
    assert loss.sum.item() == pytest.approx(float(expected), abs=1e-5)
    assert loss.targets.item() == 3
    assert loss.metrics == {}


def test_cross_entropies_that_the_model_computed_give_the_same_loss() -> None:
    logits = torch.randn(2, 3, 5)
    each = torch.nn.functional.cross_entropy(logits.flatten(0, 1), LABELS.clamp(min=0).flatten(), reduction="none").view(2, 3)
    of_tokens, of_logits = CausalLm().loss_of_tokens(each, {"labels": LABELS}), CausalLm().loss(logits, {"labels": LABELS})
    assert of_tokens.sum.item() == pytest.approx(of_logits.sum.item(), abs=1e-5)
    assert of_tokens.targets.item() == of_logits.targets.item()
