"""Stages of a model as DeepSpeed's PipelineModule, over data and tensor parallel ranks. Made by engine.py where pp > 1.

A stage is one entry of the module's list: Hugging Face's own forward runs it. An embedding that the output head shares is an entry of its
own at both ends, so that DeepSpeed sums its gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.pipe import LayerSpec, PipelineModule, TiedLayerSpec
from deepspeed.runtime.pipe.topology import PipeModelDataParallelTopology
from torch import nn
from torch.nn.functional import linear

from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.data.step_batch import StepBatch
from llmtrain_trainer.engines.deepspeed.assemble import as_computed, keep_whole, make, optimizer_of, pretrained
from llmtrain_trainer.engines.deepspeed.place import DeepSpeedRank
from llmtrain_trainer.engines.micro import count, micro_batches
from llmtrain_trainer.model.materialize import materialize
from llmtrain_trainer.model.skeleton import skeleton
from llmtrain_trainer.model.stage import tied_names
from llmtrain_trainer.objectives import OBJECTIVES
from llmtrain_trainer.objectives.sums import vector

TABLE = "table"


class Feed:
    """Positions of the micro-batches, in order: every stage has them, so that stages send hidden states only."""

    def __init__(self) -> None:
        self._waiting: Iterator[torch.Tensor | None] = iter(())

    def fill(self, positions: Iterator[torch.Tensor | None]) -> None:
        """Set the positions of the next run; each is [batch, length], or None."""
        self._waiting = positions

    def take(self) -> torch.Tensor | None:
        """Positions of the next micro-batch, [batch, length]."""
        return next(self._waiting)


class StageModule(nn.Module):
    """One stage: hidden states in and out; ids in and logits out at the ends, where the table is not outside."""

    def __init__(self, config: TrainerConfig, model_dir: Path, place: DeepSpeedRank, feed: Feed, table_outside: bool) -> None:
        super().__init__()
        made = make(config, model_dir, place, place.pp_rank, partition=keep_whole, table_outside=table_outside)
        self.network = made.stage.network
        self._stage, self.cut, self._feed = made.stage, made.cut, feed
        self._takes_ids = made.stage.first and not table_outside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inputs = {"input_ids" if self._takes_ids else "inputs_embeds": x, "position_ids": self._feed.take(), "use_cache": False}
        hidden: torch.Tensor = self.network.base_model(**inputs).last_hidden_state
        return self.network.get_output_embeddings()(hidden) if self._stage.last else hidden

    def weights(self) -> dict[str, nn.Parameter]:
        """By the names they are saved under."""
        return dict(self._stage.names())


class TiedEmbedding(nn.Module):
    """The embedding that the output head shares: on the first stage it looks up, on the last it projects."""

    def __init__(self, config: TrainerConfig, model_dir: Path, place: DeepSpeedRank) -> None:
        super().__init__()
        network = skeleton(config, model_dir)
        (self.name,) = tied_names(network).values()
        materialize(network, self.name.rpartition(".")[0], pretrained(config, model_dir, network), config.training.seed, place.device)
        self.embedding = network.get_submodule(self.name.rpartition(".")[0])
        as_computed(config, self.embedding)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.embedding(ids)
        return found


def project(table: TiedEmbedding, hidden: torch.Tensor) -> torch.Tensor:
    """Logits: [batch, length, hidden] -> [batch, length, vocabulary]."""
    return linear(hidden, table.embedding.weight)


class Stages(PipelineModule):  # type: ignore[misc]
    """PipelineModule with stage boundaries given by the mesh."""

    def _partition_layers(self, method: str = "") -> None:  # noqa: ARG002 - DeepSpeed names its methods here, and none is ours
        ends = self._num_layers - self.num_stages  # 2 with a table, else 0
        self.parts = [0, *(stage + ends // 2 for stage in range(1, self.num_stages)), self._num_layers]
        self._set_bounds(start=self.parts[self.stage_id], stop=self.parts[self.stage_id + 1])


class Pipeline:
    """Runs a batch and gives this rank's loss and metrics, [1 + metrics]: 0 but on the last stage."""

    def __init__(self, config: TrainerConfig, model_dir: Path, place: DeepSpeedRank, settings: dict[str, Any]) -> None:
        """Collective."""
        self._place, self._micro_size, self._feed = place, config.batch.micro_size, Feed()
        self._objective, self._scale = OBJECTIVES[config.task], 1.0
        self._total = torch.zeros(1 + len(self._objective.metrics), dtype=torch.float64, device=place.device)
        tied = bool(tied_names(skeleton(config, model_dir)))
        parts = [LayerSpec(StageModule, config, model_dir, place, self._feed, tied) for _ in range(place.pp)]
        table = (config, model_dir, place)
        first = [TiedLayerSpec(TABLE, TiedEmbedding, *table, tied_weight_attr="embedding.weight")] if tied else []
        last = [TiedLayerSpec(TABLE, TiedEmbedding, *table, forward_fn=project, tied_weight_attr="embedding.weight")] if tied else []
        topology = PipeModelDataParallelTopology(num_pp=place.pp, num_mp=place.tp, num_dp=place.dp)
        with torch.no_grad():  # it broadcasts weights while it is made
            network = Stages([*first, *parts, *last], topology=topology, loss_fn=self._loss)
        if config.peft is not None:
            network.tied_comms = {}  # equal by now, and frozen: there is no gradient to reduce
        self._read(network)
        self.optimizer = optimizer_of(self.weights, config)
        self.deepspeed, *_ = deepspeed.initialize(model=network, optimizer=self.optimizer, config=settings)

    def train(self, batch: StepBatch) -> torch.Tensor:
        """All micro-batches through the pipeline, and the optimizer's step. This rank's part of the means: [1 + metrics]."""
        number = count(batch, self._micro_size)
        self._total.zero_()
        # DeepSpeed takes the mean over replicas and micro-batches, and the loss is divided by the targets of all of them.
        self._scale = self._place.dp * number / batch.target_tokens
        self.deepspeed.train_batch(self._fed(batch))
        return self._total / batch.target_tokens

    def loss(self) -> torch.Tensor:
        """This rank's sum over the micro-batches of the step so far, 0 but on the last stage; a scalar."""
        return self._total[0]

    def evaluate(self, batch: StepBatch) -> torch.Tensor:
        """Forward only; this rank's part of the sums: [1 + metrics]."""
        self._total.zero_()
        self.deepspeed.eval_batch(self._fed(batch), reduce_output=None, bcast_loss=False, num_micro_batches=count(batch, self._micro_size))
        return self._total.clone()

    def _fed(self, batch: StepBatch) -> Iterator[tuple[torch.Tensor, tuple[torch.Tensor, ...]]]:
        """The input of this stage: ids for the first, the objective's columns for the last."""
        micros = list(micro_batches(batch, self._objective, self._micro_size, self._place.device))
        self._feed.fill(iter([micro.positions for micro in micros]))
        return iter([(micro.ids, tuple(micro.columns.values())) for micro in micros])

    def _loss(self, outputs: torch.Tensor, values: tuple[torch.Tensor, ...]) -> torch.Tensor:
        loss = self._objective.loss(outputs, dict(zip(self._objective.columns, values, strict=True)))
        self._total += vector(self._objective, loss).detach()
        return loss.sum * self._scale

    def _read(self, network: PipelineModule) -> None:
        """The modules of this rank."""
        self.weights: dict[str, nn.Parameter] = {}
        self.cut: dict[str, int] = {}
        self.again: frozenset[str] = frozenset()
        for entry in network.modules():
            if isinstance(entry, StageModule):
                self.weights |= entry.weights()
                self.cut |= entry.cut
            elif isinstance(entry, TiedEmbedding):
                self.weights[entry.name] = entry.embedding.weight
                self.again = frozenset({entry.name}) if self._place.pp_rank else self.again
