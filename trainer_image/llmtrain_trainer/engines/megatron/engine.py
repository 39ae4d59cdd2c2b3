"""The megatron engine: puts model, optimizer, schedule and checkpoint together. Built by engines/__init__.py."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import torch
import torch.distributed as dist
from megatron.core.tensor_parallel import model_parallel_cuda_manual_seed

from llmtrain_trainer.checkpoint_readers.published import PublishedWeights
from llmtrain_trainer.checkpoint_readers.reader import MOMENTS, WEIGHT, CheckpointReader
from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.data.step_batch import StepBatch
from llmtrain_trainer.engines.engine import EvaluationResult, StepResult
from llmtrain_trainer.engines.megatron.checkpoint import load_files, write_files
from llmtrain_trainer.engines.megatron.gather import MegatronGatherer
from llmtrain_trainer.engines.megatron.groups import device_of, join_groups
from llmtrain_trainer.engines.megatron.layers import TRANSFORMER_ENGINE
from llmtrain_trainer.engines.megatron.model import build_chunks, first_expert, outline
from llmtrain_trainer.engines.megatron.optimizer import adamw, measure, put, set_steps, update, wrap
from llmtrain_trainer.engines.megatron.settings import transformer_config
from llmtrain_trainer.engines.megatron.steps import objective_of, run_batch
from llmtrain_trainer.engines.megatron.timers import Timers
from llmtrain_trainer.engines.megatron.weights import heads_of, held_by
from llmtrain_trainer.engines.native.gradients import all_finite
from llmtrain_trainer.engines.peak_memory import peak_bytes
from llmtrain_trainer.engines.stopwatch import Stopwatch
from llmtrain_trainer.model.export import write_export
from llmtrain_trainer.model.materialize import seed_of
from llmtrain_trainer.objectives.sums import named


class MegatronEngine:
    """See engines/engine.py for what each method promises."""

    saves: Literal["files"] = "files"

    def __init__(self, config: TrainerConfig, model_dir: Path) -> None:
        """Collective. Raises ValueError on a CPU, and where Megatron cannot express the model or the layout."""
        self._config, self._model_dir, self._objective = config, model_dir, objective_of(config.task)
        self._device = device_of(config.device)
        network = outline(model_dir)
        self._shape = network.config
        self._settings = transformer_config(self._shape, config, transformer_engine=TRANSFORMER_ENGINE)
        self._place = join_groups(config.mesh, config.training.seed)
        chunks = build_chunks(config, network, model_dir, self._settings, self._place, self._device)
        self._chunks = wrap(chunks, self._settings, distributed=config.mesh.zero_stage > 0)
        self._optimizer = adamw(self._chunks, config, self._settings)
        self._steps = 0
        self._watch = Stopwatch(self._device)
        self._timers = Timers(self._watch)

    @property
    def replica(self) -> int:
        """Data-parallel index of this rank."""
        return self._place.replica

    def train_step(self, batch: StepBatch, *, learning_rate: float, step: int, stop: bool) -> StepResult:
        """One optimizer step. Dropout depends on (seed, step, stage, replica), so a resumed run draws what an undisturbed one would."""
        if self._settings.attention_dropout:
            place = self._place
            seed = seed_of(self._config.training.seed, step, place.pp, place.replica, place.cp)
            model_parallel_cuda_manual_seed(seed, force_reset_rng=True)
        for chunk in self._chunks:
            chunk.zero_grad_buffer()
        self._optimizer.zero_grad()
        self._settings.timers = self._timers
        with self._watch.phase("comm"):  # but for what the schedule times as forward and backward
            sums = run_batch(self._chunks, self._objective, batch, self._config.batch.micro_size, self._device, forward_only=False)
        self._settings.timers = None
        (total, *metrics), stops, times = self._agree(sums, stop)
        with self._watch.phase("optimizer"):
            norm = measure(self._optimizer)
            skipped = not (math.isfinite(total) and math.isfinite(norm))
            if not skipped:
                update(self._optimizer, norm, learning_rate)
                self._steps += 1
        return StepResult(
            loss=total / batch.target_tokens,
            grad_norm=norm,
            stop=stops > 0,
            skipped=skipped,
            metrics=named(self._objective, [value / batch.target_tokens for value in metrics]),
            phase_seconds=self._watch.take(),
            rank_seconds=times,
        )

    @torch.no_grad()
    def evaluate(self, batch: StepBatch) -> EvaluationResult:
        """Loss and metrics, summed over the batch's targets."""
        for chunk in self._chunks:
            chunk.eval()
        sums = run_batch(self._chunks, self._objective, batch, self._config.batch.micro_size, self._device, forward_only=True)
        for chunk in self._chunks:
            chunk.train()
        (total, *metrics), _, _ = self._agree(sums, stop=False)
        return EvaluationResult(total, batch.target_tokens, named(self._objective, metrics))

    def save_files(self, directory: Path) -> None:
        """Write this rank's shards as Megatron's torch_dist format; rank 0 also writes what all of them share."""
        write_files(self._chunks, self._optimizer, self._steps, directory)

    def finite(self) -> bool:
        """Weights of this rank."""
        return all_finite(weight.detach() for chunk in self._chunks for weight in chunk.parameters())

    def load_checkpoint(self, directory: Path) -> None:
        """Read what any layout with the same zeroStage wrote; Megatron reshapes it."""
        self._steps = load_files(self._chunks, self._optimizer, directory)

    def load_foreign_checkpoint(self, source: CheckpointReader) -> None:
        """Take over weights and optimizer from another engine, or from this one with another zeroStage."""
        held = held_by([chunk.module for chunk in self._chunks], self._shape, first_expert(self._settings, self._place))
        place = (heads_of(self._shape), self._config.mesh.tp, self._place.tp)
        sources = {key: PublishedWeights(source, self._shape.model_type, key) for key in (WEIGHT, *(MOMENTS if source.steps else ()))}
        with torch.no_grad():
            for weight in held:
                values = {key: weight.part(found, *place) for key, found in sources.items()}
                weight.weight.copy_(values[WEIGHT])
                put(self._optimizer, weight.weight, values)
        set_steps(self._optimizer, source.steps)
        self._steps = source.steps

    def export(self, directory: Path, kind: str) -> None:
        """Write Hugging Face's files under the names of the published models; see export.py."""
        held = held_by([chunk.module for chunk in self._chunks], self._shape, first_expert(self._settings, self._place))
        gatherer = MegatronGatherer(list(held), heads_of(self._shape), self._config.mesh.tp)
        write_export(self._config, self._model_dir, gatherer, directory, kind)

    def memory_bytes(self) -> int:
        """Peak of this process."""
        return peak_bytes(self._device)

    def _agree(self, sums: torch.Tensor, stop: bool) -> tuple[list[float], float, tuple[float, ...]]:
        """Sums of loss and metrics, how many ranks were asked to stop, pace by rank: of all ranks, in one small all-reduce."""
        rest = torch.zeros(1 + dist.get_world_size(), dtype=torch.float64, device=self._device)
        rest[0], rest[1 + dist.get_rank()] = float(stop), self._watch.own_seconds
        values = torch.cat([sums * (self._place.tp == 0), rest])  # tensor-parallel ranks hold the same loss: one of them counts
        dist.all_reduce(values)
        total, (stops, *times) = values[: len(sums)].tolist(), values[len(sums) :].tolist()
        return total, stops, tuple(times)
