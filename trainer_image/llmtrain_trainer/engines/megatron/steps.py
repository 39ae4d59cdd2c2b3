"""One pass over the micro-batches of a step through Megatron's pipeline schedules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from megatron.core.distributed import DistributedDataParallel
from megatron.core.pipeline_parallel import get_forward_backward_func
from megatron.core.utils import get_batch_on_this_cp_rank

from llmtrain_trainer.config.tables.tasks import Task
from llmtrain_trainer.data.step_batch import StepBatch
from llmtrain_trainer.objectives import OBJECTIVES
from llmtrain_trainer.objectives.objective import Batch, TokenObjective
from llmtrain_trainer.objectives.sums import added, vector

MicroBatch = dict[str, Any]


def objective_of(task: Task) -> TokenObjective:
    """The task's objective. Raises ValueError for one that reads more than cross entropies, which is all that Megatron's model gives."""
    objective = OBJECTIVES[task]
    if not isinstance(objective, TokenObjective):
        raise ValueError(f"task is {task}, but engine megatron computes cross entropy over the vocabulary alone: set engine to native")
    return objective


def run_batch(
    chunks: Sequence[DistributedDataParallel],
    objective: TokenObjective,
    batch: StepBatch,
    micro: int,
    device: torch.device,
    *,
    forward_only: bool,
) -> torch.Tensor:
    """Forward, and backward unless forward_only, of all micro-batches of `micro` rows. Gradients are then those of the mean loss.

    Returns loss and metrics summed over this rank's targets, float64 [1 + metrics]: 0 but on the last stage.
    """
    rows, length = batch["input_ids"].shape
    columns = ("input_ids", "position_ids", *objective.columns)
    sums = get_forward_backward_func()(
        forward_step_func=partial(_forward, objective),
        data_iterator=[_micro_batches(batch, columns, micro, device) for _ in chunks],  # each stage of a rank goes through all of them
        model=list(chunks),
        num_microbatches=rows // micro,
        seq_length=length,
        micro_batch_size=micro,
        forward_only=forward_only,
    )
    zero = torch.zeros(1 + len(objective.metrics), dtype=torch.float64, device=device)
    return added(torch.stack(sums).double()) if sums else zero


def _micro_batches(batch: StepBatch, columns: Sequence[str], micro: int, device: torch.device) -> Iterator[MicroBatch]:
    """What each stage is called with; all stages need the mask."""
    moved = {name: batch[name].to(device, non_blocking=True) for name in columns}
    for begin in range(0, batch.rows, micro):
        rows = {name: tensor[begin : begin + micro] for name, tensor in moved.items()}
        mask = own_sample_mask(rows["position_ids"]) if batch.packed else None
        yield {**get_batch_on_this_cp_rank(rows), "attention_mask": mask}


def own_sample_mask(positions: torch.Tensor) -> torch.Tensor:
    """[batch, length] positions, 0 where a sample starts -> [batch, 1, length, length], True where row sees column: causal, same sample."""
    sample = (positions == 0).cumsum(dim=1)
    same = sample[:, None, :, None] == sample[:, None, None, :]
    return same.tril()


def _forward(objective: TokenObjective, data: Iterator[MicroBatch], chunk: DistributedDataParallel) -> tuple[torch.Tensor, Any]:
    micro = next(data)
    losses = chunk(
        input_ids=micro["input_ids"],
        position_ids=micro["position_ids"],
        attention_mask=micro["attention_mask"],
        labels=micro["labels"].clamp(min=0),
    )
    return losses, partial(_summed, objective, {name: micro[name] for name in objective.columns})


def _summed(objective: TokenObjective, columns: Batch, losses: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Megatron divides gradients by the number of targets over all micro-batches and replicas."""
    loss = objective.loss_of_tokens(losses, columns)
    return loss.sum, loss.targets.int(), vector(objective, loss).detach()
