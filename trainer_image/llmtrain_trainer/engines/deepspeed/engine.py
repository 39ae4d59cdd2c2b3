"""Engine `deepspeed`; engines/engine.py documents the methods.

Batches, loss and norm are those of engine native: the same data order, a loss divided by the targets of the global batch, a norm that
counts each weight of the model once. fp32 runs agree with one process to 1e-5.
"""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import deepspeed
import torch
import torch.distributed as dist

from llmtrain_trainer.checkpoint_readers.reader import CheckpointReader
from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.data.step_batch import StepBatch
from llmtrain_trainer.engines.deepspeed import disk
from llmtrain_trainer.engines.deepspeed.files import DeepSpeedReader, Weight, notes, weights_of
from llmtrain_trainer.engines.deepspeed.norm import Clipper, Guard
from llmtrain_trainer.engines.deepspeed.optimizer_state import load, optimizer_state_of
from llmtrain_trainer.engines.deepspeed.pipeline import Pipeline
from llmtrain_trainer.engines.deepspeed.place import place_of
from llmtrain_trainer.engines.deepspeed.replica import Replica
from llmtrain_trainer.engines.deepspeed.settings import clips_itself, settings_of
from llmtrain_trainer.engines.deepspeed.weights import DeepSpeedGatherer
from llmtrain_trainer.engines.engine import EvaluationResult, StepResult
from llmtrain_trainer.engines.native.gradients import all_finite
from llmtrain_trainer.engines.peak_memory import peak_bytes
from llmtrain_trainer.model.export import write_export
from llmtrain_trainer.model.materialize import seed_of
from llmtrain_trainer.objectives import OBJECTIVES
from llmtrain_trainer.objectives.sums import named


class DeepSpeedEngine:
    """ZeRO, AutoTP and pipelines behind the Protocol."""

    saves: Literal["files"] = "files"

    def __init__(self, config: TrainerConfig, model_dir: Path) -> None:
        """Collective. Raises ValueError where the model cannot be laid out as the mesh says, or a raw key says what a field says."""
        self._config, self._model_dir, self._objective = config, model_dir, OBJECTIVES[config.task]
        device = torch.device("cuda", torch.cuda.current_device()) if config.device == "cuda" else torch.device("cpu")
        settings = settings_of(config)
        _take_over(config)
        self._place = place_of(config.mesh, device)
        kind = Pipeline if config.mesh.pp > 1 else Replica
        self._runner: Pipeline | Replica = kind(config, model_dir, self._place, settings)
        if disk.uses_disk(config):
            disk.take_over(self._runner.deepspeed)
        self._measured = self._hang_in(config)

    def _hang_in(self, config: TrainerConfig) -> Clipper | Guard:
        """Install the hooks that measure the gradient norm and skip updates that are not finite."""
        runner, limit = self._runner, config.training.gradient_clipping
        if not clips_itself(config):
            again = runner.again if isinstance(runner, Pipeline) else frozenset[str]()
            clipper = Clipper(self._place, runner.weights, runner.cut, again, limit, runner.loss)
            runner.optimizer.register_step_pre_hook(clipper)
            return clipper
        guard = Guard(runner.deepspeed.optimizer, runner.loss)
        runner.optimizer.register_step_pre_hook(guard.before)
        runner.optimizer.register_step_post_hook(guard.after)
        return guard

    @property
    def replica(self) -> int:
        """Data-parallel index of this rank."""
        return self._place.dp_rank

    def train_step(self, batch: StepBatch, *, learning_rate: float, step: int, stop: bool) -> StepResult:
        """One optimizer step. Dropout depends on (seed, step, stage, replica), so a resumed run draws what an undisturbed one would."""
        torch.manual_seed(seed_of(self._config.training.seed, step, self._place.pp_rank, self._place.dp_rank))
        for group in self._runner.deepspeed.optimizer.param_groups:
            group["lr"] = learning_rate
        self._measured.begin()
        means = self._runner.train(batch)
        all_in_one = torch.cat([self._once(means), torch.tensor([float(stop)], dtype=torch.float64, device=means.device)])
        dist.all_reduce(all_in_one)
        loss, *metrics, stops = all_in_one.tolist()
        norm = self._measured.norm
        skipped = not (math.isfinite(norm) and math.isfinite(loss))
        return StepResult(loss=loss, grad_norm=norm, stop=stops > 0, metrics=named(self._objective, metrics), skipped=skipped)

    def evaluate(self, batch: StepBatch) -> EvaluationResult:
        """Loss and metrics, summed over the batch's targets."""
        total = self._once(self._runner.evaluate(batch))
        dist.all_reduce(total)
        loss, *metrics = total.tolist()
        return EvaluationResult(loss, batch.target_tokens, named(self._objective, metrics))

    def save_files(self, directory: Path) -> None:
        """Write DeepSpeed's own files; with adapters, without the frozen weights."""
        engine, frozen = self._runner.deepspeed, self._config.peft is not None
        said = notes(self._runner.optimizer, self._runner.weights, self._runner.cut, engine.param_names)
        engine.save_checkpoint(str(directory), tag="", client_state=said, save_latest=False, exclude_frozen_parameters=frozen)
        for script in directory.glob("*.py"):
            script.unlink()  # DeepSpeed leaves programs beside its files

    def finite(self) -> bool:
        """Weights of this rank: of those that ZeRO shards, its shard; none that is offloaded to disk."""
        return all_finite(getattr(weight, "ds_tensor", weight).detach() for weight in self._runner.weights.values())

    def load_checkpoint(self, directory: Path) -> None:
        """Load files that `save_files` wrote in any layout; each rank reads its own shards."""
        files = DeepSpeedReader(directory)
        self._fill(files.weights, files.steps)

    def load_foreign_checkpoint(self, source: CheckpointReader) -> None:
        """Take over weights and optimizer from another engine."""
        self._fill(weights_of(source), source.steps)

    def export(self, directory: Path, kind: str) -> None:
        """Write Hugging Face files; see export.py."""
        gatherer = DeepSpeedGatherer(self._place, self._runner.weights, self._runner.cut)
        write_export(self._config, self._model_dir, gatherer, directory, kind)

    def memory_bytes(self) -> int:
        """Peak memory of this process."""
        return peak_bytes(self._place.device)

    @torch.no_grad()
    def _fill(self, stored: Mapping[str, Weight], steps: int) -> None:
        names = {weight: name for name, weight in self._runner.weights.items()}
        load(stored, steps, optimizer_state_of(self._runner.deepspeed), names, self._runner.cut, self._place)

    def _once(self, sums: torch.Tensor) -> torch.Tensor:
        """Tensor-parallel ranks hold the same loss, so only one of them counts."""
        return sums * (self._place.tp_rank == 0)


def _take_over(config: TrainerConfig) -> None:
    """Let DeepSpeed use the process group that stands, without what it would compile for CPUs at its first collective."""
    os.environ.setdefault("LOCAL_RANK", str(dist.get_rank() % config.mesh.procs_per_node))
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*is deprecated", category=FutureWarning, module="torch.distributed")  # one a collective
    operations = deepspeed.ops.__compatible_ops__
    operations["deepspeed_shm_comm"] = False  # shared memory for inference: 30 s of g++, and nothing here uses it
    if disk.uses_disk(config) and not operations.get("async_io"):
        raise ValueError("parallelism.offload: nvme reads and writes by libaio, which is not here: install libaio-dev and g++, or use cpu")
    if deepspeed.comm.comm.cdb is None or not deepspeed.comm.is_initialized():
        deepspeed.init_distributed(dist_init_required=False)
