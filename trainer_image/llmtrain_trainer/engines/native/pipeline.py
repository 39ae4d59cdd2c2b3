"""Micro-batches through this rank's stages: one stage without a pipeline, or GPipe, 1F1B, interleaved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe, ScheduleInterleaved1F1B
from torch.distributed.pipelining.schedules import PipelineScheduleMulti, PipelineScheduleSingle

from llmtrain_trainer.config import PipelineSchedule
from llmtrain_trainer.data.step_batch import StepBatch
from llmtrain_trainer.engines.native.context import part
from llmtrain_trainer.engines.native.mesh import ParallelDims
from llmtrain_trainer.engines.stopwatch import Stopwatch
from llmtrain_trainer.model.stage import Stage
from llmtrain_trainer.objectives.objective import Objective
from llmtrain_trainer.objectives.sums import added

SINGLE = {"gpipe": ScheduleGPipe, "1f1b": Schedule1F1B}


class _TimedStage(PipelineStage):
    """A stage that times its forward and backward passes; the rest of a schedule is communication."""

    def __init__(self, watch: Stopwatch, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._watch = watch

    def forward_one_chunk(self, *args: Any, **kwargs: Any) -> Any:
        with self._watch.phase("forward"):
            return super().forward_one_chunk(*args, **kwargs)

    def backward_one_chunk(self, *args: Any, **kwargs: Any) -> Any:
        with self._watch.phase("backward"):
            return super().backward_one_chunk(*args, **kwargs)


class Runner:
    """Runs a batch forward, and backward in training; returns this rank's loss and metrics, [1 + metrics]."""

    def __init__(
        self,
        stages: Sequence[Stage],
        dims: ParallelDims,
        objective: Objective,
        schedule: PipelineSchedule,
        micro_size: int,
        hidden: int,
        dtype: torch.dtype,
        watch: Stopwatch,
    ) -> None:
        """`hidden`: width of the activations that stages send; `dtype`: their type; `watch`: receives the phases of training."""
        self._watch, self._objective = watch, objective
        self._losses: list[torch.Tensor] = []
        self._stages, self._dims, self._name = stages, dims, schedule
        self._micro_size, self._hidden, self._dtype = micro_size, hidden, dtype
        self._schedules: dict[tuple[int, int, bool], PipelineScheduleSingle | PipelineScheduleMulti] = {}
        if len(stages) > 1 and schedule != "interleaved":
            raise ValueError(f"mesh.schedule is {schedule}, but there are {len(stages)} stages a rank: set it to interleaved")
        if len(stages) == 1 and schedule == "interleaved" and dims.pp > 1:
            raise ValueError("mesh.schedule is interleaved, but there is one stage a rank: give at least 2 x pp stages, or schedule 1f1b")

    def train(self, batch: StepBatch) -> torch.Tensor:
        """Forward and backward of the loss divided by batch.target_tokens; this rank's part of the means: [1 + metrics]."""
        if self._dims.pp == 1:
            return self._train_alone(batch)
        self._divisor = batch.target_tokens
        self._losses.clear()
        self._pipe(batch, backward=True)
        return added(torch.stack(self._losses)) if self._losses else self._zero()

    @torch.no_grad()
    def evaluate(self, batch: StepBatch) -> torch.Tensor:
        """Forward only; this rank's part of the sums: [1 + metrics]."""
        if self._dims.pp == 1:
            network = self._stages[0].network
            return added(torch.stack([network(ids, **rest) for ids, rest in self._micro_batches(batch)]))
        outputs = self._pipe(batch, backward=False)
        return self._zero() if outputs is None else added(outputs.view(-1, self._values))

    def _train_alone(self, batch: StepBatch) -> torch.Tensor:
        network, total = self._stages[0].network, self._zero()
        micro_batches = list(self._micro_batches(batch))
        for number, (ids, rest) in enumerate(micro_batches, start=1):
            if isinstance(network, FSDPModule) and self._dims.zero_stage < 2:
                network.set_requires_gradient_sync(number == len(micro_batches))
            with self._watch.phase("forward"):
                means = network(ids, **rest) / batch.target_tokens
            with self._watch.phase("backward"):
                means[:1].backward()
            total += means.detach()
        return total

    def _micro_batches(self, batch: StepBatch) -> Iterator[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
        """(ids, labels and positions) of each micro-batch."""
        self._count(batch)
        ids, rest = self._given(batch)
        for start in range(0, ids.shape[0], self._micro_size):
            rows = slice(start, start + self._micro_size)
            yield ids[rows], {name: values[rows] for name, values in rest.items()}

    def _given(self, batch: StepBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """This rank's part of ids and of the objective's columns, on its device; positions of full sequences for packed or split rows."""
        device, dims = self._dims.device, self._dims
        rest = {name: part(batch[name], dims).to(device) for name in self._objective.columns}
        if batch.packed:
            rest["position_ids"] = batch["position_ids"].to(device)
        elif dims.cp > 1:
            rows, length = batch["input_ids"].shape
            rest["position_ids"] = torch.arange(length, device=device).expand(rows, -1)
        return part(batch["input_ids"], dims).to(device), rest

    def _count(self, batch: StepBatch) -> int:
        if batch.rows % self._micro_size:
            raise ValueError(f"a batch of {batch.rows} rows is not made of whole micro-batches of {self._micro_size}")
        return batch.rows // self._micro_size

    def _pipe(self, batch: StepBatch, *, backward: bool) -> torch.Tensor | None:
        ids, rest = self._given(batch)
        schedule = self._schedule(self._count(batch), ids.shape[1], backward)
        given: dict[str, Any] = dict(rest)
        first = (ids,) if self._stages[0].first else ()
        target = ids if self._stages[-1].last else None  # which the stage does not read: it has the objective's columns
        outputs: torch.Tensor | None = None
        if backward:
            with self._watch.phase("comm"):  # but for what the stages themselves compute, see _TimedStage
                schedule.step(*first, target=target, return_outputs=False, **given)
        else:
            outputs = schedule.eval(*first, target=target, **given)
        return outputs

    def _schedule(self, count: int, length: int, backward: bool) -> PipelineScheduleSingle | PipelineScheduleMulti:
        """One schedule for each shape of batch, because receive buffers belong to a schedule. Evaluation has one of its own."""
        key = (count, length, backward)
        if key not in self._schedules:
            stages = [self._pipeline_stage(stage, length, self._watch if backward else None) for stage in self._stages]
            loss = self._scaled if backward else None
            if len(stages) > 1:
                self._schedules[key] = ScheduleInterleaved1F1B(list(stages), count, loss_fn=loss, scale_grads=False)
            else:
                self._schedules[key] = SINGLE[self._name](stages[0], count, loss_fn=loss, scale_grads=False)
        return self._schedules[key]

    def _scaled(self, sums: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        """The last stage returns the loss itself, so that the pipeline never keeps logits. Metrics are collected in _losses."""
        means = sums / self._divisor
        self._losses.append(means.detach())
        return means[:1]

    @property
    def _values(self) -> int:
        return 1 + len(self._objective.metrics)

    def _pipeline_stage(self, stage: Stage, length: int, watch: Stopwatch | None) -> PipelineStage:
        shape = (self._micro_size, length)
        ids = torch.empty(shape, dtype=torch.int64, device="meta")
        hidden = torch.empty((*shape, self._hidden), dtype=self._dtype, device="meta", requires_grad=True)
        sums = torch.empty(self._values, device="meta", requires_grad=True)
        kind = partial(_TimedStage, watch) if watch is not None else PipelineStage
        return kind(
            stage.network,
            stage.index,
            stage.count,
            self._dims.device,
            input_args=ids if stage.first else hidden,
            output_args=sums if stage.last else hidden,
            group=self._dims.pipeline,
        )

    def _zero(self) -> torch.Tensor:
        return torch.zeros(self._values, device=self._dims.device)
