"""A replica without a pipeline: DeepSpeed's engine with ZeRO 0 to 3 and AutoTP's layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.utils import groups
from peft.tuners.lora import LoraLayer
from torch import nn

from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.data.step_batch import StepBatch
from llmtrain_trainer.engines.deepspeed.assemble import Partition, keep_whole, make, optimizer_of
from llmtrain_trainer.engines.deepspeed.place import DeepSpeedRank
from llmtrain_trainer.engines.micro import micro_batches
from llmtrain_trainer.objectives import OBJECTIVES


class Replica:
    """Runs a batch and gives this rank's loss and metrics, [1 + metrics]."""

    def __init__(self, config: TrainerConfig, model_dir: Path, place: DeepSpeedRank, settings: dict[str, Any]) -> None:
        """Collective."""
        self._place, self._micro_size, self._objective = place, config.batch.micro_size, OBJECTIVES[config.task]
        self._total = self._zero()
        if place.tp > 1:
            groups._init_tp_mesh_device(tensor_model_parallel_size=place.tp)
        made = make(config, model_dir, place, 0, partition=_partition(config, settings))
        network: Any = made.stage.network
        if place.tp > 1:
            network.ds_autotp_parsed = True  # AutoTP's layers are in already: see tensor.py
        if config.mesh.zero_stage == 3:
            _tell_of_adapters(network)
        self.cut, self.weights = made.cut, dict(made.stage.names())
        self.optimizer = optimizer_of(self.weights, config)
        self.deepspeed, *_ = deepspeed.initialize(model=network, optimizer=self.optimizer, config=settings)

    def train(self, batch: StepBatch) -> torch.Tensor:
        """Forward, backward and, after the last micro-batch, the optimizer's step. This replica's part of the means: [1 + metrics]."""
        self._total = self._zero()
        for ids, columns, positions in micro_batches(batch, self._objective, self._micro_size, self._place.device):
            sums = self.deepspeed(ids, position_ids=positions, **columns)
            self._total += sums.detach()
            # DeepSpeed takes the mean over replicas, and the loss is divided by the targets of all of them.
            self.deepspeed.backward(sums[0] * (self._place.dp / batch.target_tokens), scale_wrt_gas=False)
            self.deepspeed.step()
        return self._total / batch.target_tokens

    def loss(self) -> torch.Tensor:
        """This rank's sum over the micro-batches of the step so far; a scalar."""
        return self._total[0]

    @torch.no_grad()
    def evaluate(self, batch: StepBatch) -> torch.Tensor:
        """Forward only; this replica's part of the sums: [1 + metrics]."""
        self.deepspeed.eval()
        total = self._zero()
        for ids, columns, positions in micro_batches(batch, self._objective, self._micro_size, self._place.device):
            total += self.deepspeed(ids, position_ids=positions, **columns)
        self.deepspeed.train()
        return total

    def _zero(self) -> torch.Tensor:
        return torch.zeros(1 + len(self._objective.metrics), dtype=torch.float64, device=self._place.device)


def _partition(config: TrainerConfig, settings: dict[str, Any]) -> Partition:
    """ZeRO-3 shards weights while the model is built; lower stages keep them in full."""
    if config.mesh.zero_stage < 3:
        return keep_whole
    # Not groups._get_data_parallel_group(): before the first engine of a process is made, that is all ranks, and the shards of the first
    # tensor-parallel rank would be everybody's.
    group = groups._DATA_PARALLEL_GROUP if config.mesh.tp > 1 else None

    swapper: Any = None

    def share(module: nn.Module) -> None:
        nonlocal swapper  # of weights on a disk: a new one would begin by clearing the directory
        # No dtype: it takes that of the settings, while one that is named becomes bf16 on every CPU.
        made = deepspeed.zero.Init(module=module, data_parallel_group=group, config_dict_or_path=settings, param_swapper=swapper)
        swapper = made.param_swapper

    return share


def _tell_of_adapters(network: nn.Module) -> None:
    """peft's layers look at a weight of their adapters before these are called. DeepSpeed finds out where the weight is not there at that
    moment, and so, after a checkpoint is loaded, not before it has taken down in which order weights are used: it would fail later.
    """
    for layer in network.modules():
        for factor in layer.lora_A.values() if isinstance(layer, LoraLayer) else ():
            deepspeed.zero.register_external_parameter(layer, factor.weight)
