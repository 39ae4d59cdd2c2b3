"""Engine `native`: Hugging Face modelling code x FSDP2 x DTensor tensor parallelism x context and expert parallelism x torch pipelining.

Every layout computes the same: weights are drawn by name, the loss is a sum over the global batch's targets, the norm counts each
element once. fp32 runs agree with one process to 1e-5.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.tensor.parallel import loss_parallel

from llmtrain_trainer.checkpoint_readers.index import IndexReader, TensorPlanner
from llmtrain_trainer.checkpoint_readers.reader import CheckpointReader
from llmtrain_trainer.checkpoint_readers.state import StateOf
from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.data.step_batch import StepBatch
from llmtrain_trainer.engines.decay import decay_groups
from llmtrain_trainer.engines.engine import EvaluationResult, StepResult
from llmtrain_trainer.engines.native import tensor
from llmtrain_trainer.engines.native.assemble import build_stages
from llmtrain_trainer.engines.native.gather import NativeGatherer
from llmtrain_trainer.engines.native.gradients import all_finite, clip, reduce_remaining_gradients, square_sum
from llmtrain_trainer.engines.native.mesh import build_parallel_dims
from llmtrain_trainer.engines.native.pipeline import Runner
from llmtrain_trainer.engines.native.shards import Shard, shards_of
from llmtrain_trainer.engines.peak_memory import peak_bytes
from llmtrain_trainer.engines.stopwatch import Stopwatch
from llmtrain_trainer.model.export import write_export
from llmtrain_trainer.model.materialize import seed_of
from llmtrain_trainer.objectives import OBJECTIVES
from llmtrain_trainer.objectives.sums import named


class NativeEngine:
    """See engines/engine.py for what each method promises."""

    saves: Literal["state"] = "state"

    def __init__(self, config: TrainerConfig, model_dir: Path) -> None:
        """Collective. Raises ValueError if the mesh does not suit the model."""
        self._config, self._model_dir, self._objective = config, model_dir, OBJECTIVES[config.task]
        device = torch.device("cuda", torch.cuda.current_device()) if config.device == "cuda" else torch.device("cpu")
        self._dims = build_parallel_dims(config.mesh, device)
        self._stages = build_stages(config, model_dir, self._dims)
        partial_over_tp = set[str]()
        for stage in self._stages if self._dims.tp > 1 else ():
            partial_over_tp |= tensor.partial_over_tp(stage.network, tensor.styles(stage.network, self._dims.tp))
        self._shards = shards_of(self._stages, self._dims, partial_over_tp)
        self._equal_ends()
        self._optimizer = _adamw(self._shards, config)
        self._watch = Stopwatch(device)
        self._runner = Runner(
            self._stages,
            self._dims,
            self._objective,
            config.mesh.schedule,
            config.batch.micro_size,
            self._stages[0].network.config.hidden_size,
            torch.bfloat16 if config.training.precision == "bf16" else torch.float32,
            self._watch,
        )

    @property
    def replica(self) -> int:
        """Data-parallel index of this rank."""
        return self._dims.dp_rank

    def train_step(self, batch: StepBatch, *, learning_rate: float, step: int, stop: bool) -> StepResult:
        """One optimizer step. Dropout depends on (seed, step, stage, tokens), so a resumed run draws the masks of an undisturbed one."""
        self._seed(seed_of(self._config.training.seed, step, self._dims.pp_rank, self._dims.replica_rank))
        for shard in self._shards:
            shard.drop_gradient()
        with self._split_loss():
            sums = self._runner.train(batch)
        with self._watch.phase("comm"):
            gradients = reduce_remaining_gradients(self._shards, self._dims)
            result = self._agree(sums, square_sum(self._shards, gradients), stop)
        with self._watch.phase("optimizer"):
            if not result.skipped:
                clip(gradients, result.grad_norm, self._config.training.gradient_clipping)
                for group in self._optimizer.param_groups:
                    group["lr"] = learning_rate * group["ratio"]
                self._optimizer.step()
        return result

    def evaluate(self, batch: StepBatch) -> EvaluationResult:
        """Loss and metrics, summed over the batch's targets."""
        for stage in self._stages:
            stage.network.eval()
        with self._split_loss():
            sums = self._runner.evaluate(batch)
        for stage in self._stages:
            stage.network.train()
        total = self._once(sums)
        dist.all_reduce(total)
        loss, *metrics = total.tolist()
        return EvaluationResult(loss, batch.target_tokens, named(self._objective, metrics))

    def state_dict(self) -> dict[str, Any]:
        """{model: {name: weight}, optimizer: {name.exp_avg, name.exp_avg_sq, name.step}} of what is trained: views, not copies."""
        optimizer: dict[str, torch.Tensor] = {}
        for shard in self._shards:
            state = self._optimizer.state[shard.local]
            optimizer |= {f"{shard.name}.{key}": shard.as_dtensor(state[key]) for key in ("exp_avg", "exp_avg_sq")}
            optimizer[f"{shard.name}.step"] = state["step"]
        return {"model": {shard.name: shard.as_dtensor(shard.local.detach()) for shard in self._shards}, "optimizer": optimizer}

    def finite(self) -> bool:
        """Weights and moments of this rank."""
        moments = (self._optimizer.state[shard.local][key] for shard in self._shards for key in ("exp_avg", "exp_avg_sq"))
        return all_finite([*(shard.local.detach() for shard in self._shards), *moments])

    def load_checkpoint(self, directory: Path) -> None:
        """Load a state that `state_dict` returned in any layout, into the existing tensors."""
        load(self.state_dict(), storage_reader=IndexReader(directory), planner=TensorPlanner())

    def load_foreign_checkpoint(self, source: CheckpointReader) -> None:
        """Take over weights and optimizer from another engine."""
        load(self.state_dict(), storage_reader=StateOf(source))

    def export(self, directory: Path, kind: str) -> None:
        """Write Hugging Face files; see export.py."""
        write_export(self._config, self._model_dir, NativeGatherer(self._dims, self._stages), directory, kind)

    def memory_bytes(self) -> int:
        """Peak of this process."""
        return peak_bytes(self._dims.device)

    def _split_loss(self) -> AbstractContextManager[None]:
        """The context in which cross-entropy accepts logits that are split over the vocabulary."""
        return loss_parallel() if self._dims.tp > 1 else nullcontext()

    def _seed(self, seed: int) -> None:
        """Seed this rank's device alone: torch.manual_seed formats a stack trace for each type of device that is not in use."""
        torch.default_generator.manual_seed(seed)
        if self._dims.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _agree(self, means: torch.Tensor, squares: torch.Tensor, stop: bool) -> StepResult:
        """All-reduce loss, metrics, norm, stop flag and step times at once; this is the step's only wait for the device."""
        world = dist.get_world_size()
        mine = torch.zeros(1 + world, dtype=torch.float64)
        mine[0], mine[1 + dist.get_rank()] = float(stop), self._watch.own_seconds
        all_in_one = torch.cat([self._once(means), squares.unsqueeze(0), mine.to(means.device)])
        if world > 1:
            dist.all_reduce(all_in_one)
        (total, *metrics), rest = (values := all_in_one.tolist())[: len(means)], values[len(means) :]
        square, stops, *times = rest
        norm = square**0.5
        return StepResult(
            loss=total,
            grad_norm=norm,
            stop=stops > 0,
            metrics=named(self._objective, metrics),
            skipped=not (math.isfinite(total) and math.isfinite(norm)),
            phase_seconds=self._watch.take(),
            rank_seconds=tuple(times),
        )

    def _once(self, sums: torch.Tensor) -> torch.Tensor:
        """Tensor-parallel ranks hold the same loss, so one of them counts. All stages but the last hold 0."""
        return sums.double() * (self._dims.tp_rank == 0)

    def _equal_ends(self) -> None:
        """A tied head on the last stage starts as the first stage's embedding."""
        for shard in self._shards:
            if shard.tied:
                source = self._dims.rank_of(0, self._dims.replica_rank, self._dims.tp_rank)
                dist.broadcast(shard.local.detach(), src=source, group=self._dims.embedding_group)


def _groups(shards: tuple[Shard, ...], config: TrainerConfig) -> Iterator[dict[str, Any]]:
    """Parameter groups, each with the `ratio` of its learning rate to that of the schedule: that of LoRA+ for
    matrices B and for magnitudes, as peft has it."""
    ratio = config.peft.learning_rate_ratio if config.peft else 1.0
    wide = {shard.name for shard in shards if ratio != 1.0 and (".lora_B." in shard.name or shard.weight.ndim == 1)}
    for own, chosen in ((1.0, [shard for shard in shards if shard.name not in wide]), (ratio, [s for s in shards if s.name in wide])):
        groups = decay_groups(((shard.local, shard.weight.ndim) for shard in chosen), config.training.optimizer.weight_decay)
        yield from (group | {"ratio": own} for group in groups)


def _adamw(shards: tuple[Shard, ...], config: TrainerConfig) -> torch.optim.AdamW:
    """AdamW with decay on matrices alone; its state is made here, so that a checkpoint can be read into it before any step."""
    settings = config.training.optimizer
    groups = list(_groups(shards, config))
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas, eps=settings.epsilon, fused=True)
    for shard in shards:
        optimizer.state[shard.local] = {
            "step": torch.zeros((), device=shard.local.device),
            "exp_avg": torch.zeros_like(shard.local),
            "exp_avg_sq": torch.zeros_like(shard.local),
        }
    return optimizer
