"""Weight decay is for matrices."""

from __future__ import annotations

from llmtrain_trainer.engines.decay import decay_groups


def test_matrices_decay_and_norms_and_biases_do_not() -> None:
    groups = decay_groups([("q", 2), ("norm", 1), ("experts", 3), ("bias", 1)], 0.1)
    assert groups == [{"params": ["q", "experts"], "weight_decay": 0.1}, {"params": ["norm", "bias"], "weight_decay": 0.0}]


def test_a_group_without_parameters_is_left_out_since_optimizers_refuse_one() -> None:
    assert decay_groups([("A", 2), ("B", 2)], 0.1) == [{"params": ["A", "B"], "weight_decay": 0.1}]
    assert decay_groups([("norm", 1)], 0.1) == [{"params": ["norm"], "weight_decay": 0.0}]
    assert decay_groups([], 0.1) == []
