"""Batch arithmetic: global = micro x dp x accumulation, in sequences."""

from __future__ import annotations

from llmtrain_operator.manifest.divisors import divisors
from llmtrain_operator.manifest.problem import Problem
from llmtrain_trainer.config import Batch, Training


def batch_of(training: Training, dp: int) -> Batch | Problem:
    """The batch of one step, or a Problem if it does not divide evenly."""
    per_pass = training.micro_batch_size * dp
    accumulation, rest = divmod(training.global_batch_size, per_pass)
    if not rest:
        return Batch(global_size=training.global_batch_size, micro_size=training.micro_batch_size, accumulation=accumulation)
    rule = f"it must be a multiple of microBatchSize x data-parallel degree ({training.micro_batch_size} x {dp} = {per_pass})"
    return Problem("spec.training.globalBatchSize", str(training.global_batch_size), rule, _way_out(training, dp, per_pass))


def _way_out(training: Training, dp: int, per_pass: int) -> str:
    below = training.global_batch_size // per_pass * per_pass
    sizes = f"{below} or {below + per_pass}" if below else str(per_pass)
    if training.global_batch_size % dp == 0:
        micro = max(n for n in divisors(training.global_batch_size // dp) if n < training.micro_batch_size)
        return f"Use {sizes}, or a microBatchSize of {micro}"
    return f"Use {sizes}"
