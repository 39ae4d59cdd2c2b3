"""Engine `accelerate`: what the loop calls. See engines/engine.py for what each method promises.

Batches, loss, norm and start are those of engine native: an fp32 run agrees with one process to 1e-5. The state of a checkpoint has
native's names, so either engine resumes what the other wrote.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.tensor import DTensor

from llmtrain_trainer.checkpoint_readers.index import IndexReader, TensorPlanner
from llmtrain_trainer.checkpoint_readers.reader import MOMENTS, CheckpointReader
from llmtrain_trainer.checkpoint_readers.state import StateOf
from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.data.step_batch import StepBatch
from llmtrain_trainer.engines.accelerate.gather import AccelerateGatherer
from llmtrain_trainer.engines.accelerate.launcher import accelerator_of, shards
from llmtrain_trainer.engines.accelerate.model import layer_classes, stored, whole_model
from llmtrain_trainer.engines.decay import decay_groups
from llmtrain_trainer.engines.engine import EvaluationResult, StepResult
from llmtrain_trainer.engines.micro import count, micro_batches
from llmtrain_trainer.engines.native.gradients import all_finite, clip
from llmtrain_trainer.engines.peak_memory import peak_bytes
from llmtrain_trainer.model.export import write_export
from llmtrain_trainer.model.materialize import seed_of
from llmtrain_trainer.objectives import OBJECTIVES
from llmtrain_trainer.objectives.sums import named


class AccelerateEngine:
    """Replicas of any model of transformers behind the Protocol."""

    saves: Literal["state"] = "state"

    def __init__(self, config: TrainerConfig, model_dir: Path) -> None:
        """Collective. Raises ValueError where the mesh is not replicas alone, or a weight is in no file."""
        self._config, self._model_dir, self._objective = config, model_dir, OBJECTIVES[config.task]
        self._device = torch.device("cuda", torch.cuda.current_device()) if config.device == "cuda" else torch.device("cpu")
        self._network = whole_model(config, model_dir, self._device)
        self._accelerator = accelerator_of(config, layer_classes(self._network))
        self._model, self._optimizer = self._accelerator.prepare(self._network, _adamw(self._network, config))
        self._trained = {name: weight for name, weight in self._network.named_parameters() if weight.requires_grad}
        for weight in self._trained.values():  # made here, so that a checkpoint can be read into it before any step
            self._optimizer.optimizer.state[weight] = {
                "step": torch.zeros((), device=self._device),
                "exp_avg": torch.zeros_like(weight),
                "exp_avg_sq": torch.zeros_like(weight),
            }

    @property
    def replica(self) -> int:
        """Data-parallel index of this rank."""
        return dist.get_rank()

    def train_step(self, batch: StepBatch, *, learning_rate: float, step: int, stop: bool) -> StepResult:
        """One optimizer step. Dropout depends on (seed, step, replica), so a resumed run draws what an undisturbed one would."""
        self._seed(seed_of(self._config.training.seed, step, 0, self.replica))
        self._optimizer.zero_grad()
        sums = self._gradients(batch)
        gradients = [_local(weight.grad) for weight in self._trained.values() if weight.grad is not None]
        result = self._agree(sums / batch.target_tokens, self._squares(gradients), stop)
        if not result.skipped:
            clip(gradients, result.grad_norm, self._config.training.gradient_clipping)
            for group in self._optimizer.param_groups:
                group["lr"] = learning_rate * group["ratio"]
            self._optimizer.step()
        return result

    @torch.no_grad()
    def evaluate(self, batch: StepBatch) -> EvaluationResult:
        """Loss and metrics, summed over the batch's targets."""
        self._model.eval()
        total = self._zero()
        for ids, columns, positions in micro_batches(batch, self._objective, self._config.batch.micro_size, self._device):
            total += self._model(ids, position_ids=positions, **columns)
        self._model.train()
        dist.all_reduce(total)
        loss, *metrics = total.tolist()
        return EvaluationResult(loss, batch.target_tokens, named(self._objective, metrics))

    def state_dict(self) -> dict[str, Any]:
        """{model: {name: weight}, optimizer: {name.exp_avg, name.exp_avg_sq, name.step}} of what is trained: views, not copies."""
        optimizer: dict[str, torch.Tensor] = {}
        for name, weight in self._trained.items():
            optimizer |= {f"{name}.{key}": value for key, value in self._optimizer.optimizer.state[weight].items()}
        return {"model": {name: weight.detach() for name, weight in self._trained.items()}, "optimizer": optimizer}

    def finite(self) -> bool:
        """Weights and moments of this rank."""
        states = self._optimizer.optimizer.state
        moments = (_local(states[weight][key]) for weight in self._trained.values() for key in MOMENTS)
        return all_finite([*(_local(weight.detach()) for weight in self._trained.values()), *moments])

    def load_checkpoint(self, directory: Path) -> None:
        """Read in place what `state_dict` gave, of this engine or of native, in any layout."""
        load(self.state_dict(), storage_reader=IndexReader(directory), planner=TensorPlanner())

    def load_foreign_checkpoint(self, source: CheckpointReader) -> None:
        """Take over weights and optimizer from another engine."""
        load(self.state_dict(), storage_reader=StateOf(source))

    def export(self, directory: Path, kind: str) -> None:
        """Write Hugging Face files; see export.py."""
        write_export(self._config, self._model_dir, AccelerateGatherer(dict(stored(self._network))), directory, kind)

    def memory_bytes(self) -> int:
        """Peak of this process."""
        return peak_bytes(self._device)

    def _gradients(self, batch: StepBatch) -> torch.Tensor:
        """Forward and backward of every micro-batch, reduced over replicas with the last one. This replica's sums: [1 + metrics]."""
        total, last = self._zero(), count(batch, self._config.batch.micro_size) - 1
        micros = micro_batches(batch, self._objective, self._config.batch.micro_size, self._device)
        for number, (ids, columns, positions) in enumerate(micros):
            with nullcontext() if number == last else self._accelerator.no_sync(self._model):
                sums = self._model(ids, position_ids=positions, **columns)
                total += sums.detach()
                # Replicas take the mean of their gradients, and the loss is divided by the targets of all of them.
                self._accelerator.backward(sums[0] * (self._config.mesh.dp / batch.target_tokens))
        return total

    def _squares(self, gradients: list[torch.Tensor]) -> torch.Tensor:
        """This rank's share of the squared norm, float64 scalar: shards count everywhere, whole gradients on the first rank."""
        held = [gradient for gradient in gradients if gradient.numel()]
        if not held or not (shards(self._config) or self.replica == 0):
            return torch.zeros((), dtype=torch.float64, device=self._device)
        return torch.stack(torch._foreach_norm(held)).double().square().sum()

    def _agree(self, means: torch.Tensor, squares: torch.Tensor, stop: bool) -> StepResult:
        """Loss, metrics, norm and stop flag of all ranks in one small all-reduce."""
        asked = torch.tensor([float(stop)], dtype=torch.float64, device=self._device)
        all_in_one = torch.cat([means, squares.unsqueeze(0), asked])
        dist.all_reduce(all_in_one)
        loss, *metrics, square, stops = all_in_one.tolist()
        norm = square**0.5
        skipped = not (math.isfinite(loss) and math.isfinite(norm))
        return StepResult(loss=loss, grad_norm=norm, stop=stops > 0, metrics=named(self._objective, metrics), skipped=skipped)

    def _zero(self) -> torch.Tensor:
        return torch.zeros(1 + len(self._objective.metrics), dtype=torch.float64, device=self._device)

    def _seed(self, seed: int) -> None:
        torch.default_generator.manual_seed(seed)
        if self._device.type == "cuda":
            torch.cuda.manual_seed(seed)


def _local(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's elements, in the same storage."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _adamw(network: nn.Module, config: TrainerConfig) -> torch.optim.AdamW:
    """AdamW with decay on matrices alone."""
    settings = config.training.optimizer
    return torch.optim.AdamW(
        list(_groups(network, config)), lr=settings.learning_rate, betas=settings.betas, eps=settings.epsilon, fused=True
    )


def _groups(network: nn.Module, config: TrainerConfig) -> Iterator[dict[str, Any]]:
    """Parameter groups with the `ratio` of their learning rate to the schedule's: that of LoRA+ for matrices B and for magnitudes."""
    ratio = config.peft.learning_rate_ratio if config.peft else 1.0
    trained = [(name, weight) for name, weight in network.named_parameters() if weight.requires_grad]
    wide = {name for name, weight in trained if ratio != 1.0 and (".lora_B." in name or weight.ndim == 1)}
    for own, inside in ((1.0, False), (ratio, True)):
        chosen = ((weight, weight.ndim) for name, weight in trained if (name in wide) == inside)
        yield from (group | {"ratio": own} for group in decay_groups(chosen, config.training.optimizer.weight_decay))
