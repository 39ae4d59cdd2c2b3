"""The inputs of the memory estimate of a rank, and one line of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from llmtrain_operator.plan.memory import activations
from llmtrain_operator.plan.memory.bytes_per_parameter import NO_OFFLOAD, StateBytes
from llmtrain_operator.plan.model.shape import ModelShape
from llmtrain_operator.plan.model.weights import RankParameters
from llmtrain_trainer.config import Batch, Mesh, Offload, Peft, Training


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One line of the estimate."""

    name: str
    bytes: int
    how: str
    """The formula in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The inputs of the memory estimate."""

    shape: ModelShape
    mesh: Mesh
    batch: Batch
    training: Training
    engine: EngineMemory
    peft: Peft | None
    eager: bool
    packed: bool
    """Whether rows have several samples, so that attention needs a mask."""

    on_gpu: bool
    offload: Offload = NO_OFFLOAD
    sharing: Mapping[str, Any] = field(default_factory=dict)
    """zero_optimization of the raw DeepSpeed keys, which may change the sizes of buffers."""

    @property
    def sequence_parts(self) -> int:
        """Number of parts into which tensor-parallel ranks split the activations between matrices."""
        return self.engine.sequence_parts(self.mesh)

    @property
    def away(self) -> Offload:
        """Offload to other memory than the rank's: on a CPU rank `cpu` offload stays in the same memory and does not count."""
        if self.on_gpu:
            return self.offload
        kept = {name: "none" for name in ("optimizer", "parameters") if getattr(self.offload, name) == "cpu"}
        return self.offload.model_copy(update=kept)

    @property
    def element(self) -> int:
        """Bytes of an activation value."""
        return 2 if self.training.precision == "bf16" else 4

    @property
    def tokens(self) -> int:
        """Tokens of a micro-batch on one rank."""
        return self.batch.micro_size * self.training.sequence_length // self.mesh.cp

    @property
    def replicas(self) -> int:
        """Ranks over which a weight is sharded: each sees different tokens."""
        return self.mesh.dp * self.mesh.cp

    @property
    def virtual(self) -> int:
        """Pipeline stages per rank."""
        return len(self.mesh.stages) // self.mesh.pp


@dataclass(frozen=True, slots=True, kw_only=True)
class LossBytes:
    """How an engine computes the loss from logits."""

    whole: bool
    """Whether a rank has the logits of the full vocabulary."""

    overwritten: bool
    """Whether the gradient overwrites the logits, chunk by chunk."""

    each: int
    """Bytes per logit in fp32 otherwise."""


class EngineMemory(ABC):
    """Memory that differs between engines. The default methods are for an engine that shards nothing."""

    @abstractmethod
    def trained(self, zero: int, precision: str, dp: int, offload: Offload) -> StateBytes:
        """Bytes on each rank per parameter that AdamW trains, sharded over `dp` ranks. `offload`: states that are not on the device."""

    @abstractmethod
    def frozen(self, zero: int, precision: str, dp: int) -> float:
        """Bytes on each rank per frozen parameter of a matrix in the layers."""

    @abstractmethod
    def loss(self, workload: Workload, vocabulary_parts: int) -> LossBytes:
        """Memory of the loss, if tensor parallelism splits the vocabulary into so many parts."""

    def sequence_parts(self, mesh: Mesh) -> int:
        """Number of parts into which tensor-parallel ranks split the activations between matrices."""
        return 1

    def layer_bytes(self, workload: Workload, layer: int) -> float:
        """Bytes per token that a layer keeps for its backward pass."""
        sequence = workload.training.sequence_length
        return activations.layer_bytes(
            workload.shape, layer, sequence=sequence, element=workload.element, tp=workload.mesh.tp, eager=workload.eager
        )

    def gradients_always_there(self, workload: Workload) -> bool:
        """Whether gradients have a permanent buffer."""
        return False

    def working_copies(self, workload: Workload, mine: RankParameters) -> Iterator[Term]:
        """Copies of weights in the precision of computation, while layers compute."""
        yield from ()

    def adds_up_whole_gradients(self, workload: Workload) -> bool:
        """Whether micro-batches accumulate in unsharded gradients."""
        return False

    def reduces_by_unit(self, workload: Workload) -> bool:
        """Whether gradients are reduce-scattered unit by unit during backward."""
        return False

    def bucket(self, workload: Workload, mine: RankParameters) -> Term:
        """The buffer in which gradients are collected for a reduction."""
        return Term(name="reduction bucket", bytes=0, how="there is none")

    def step_copy(self, workload: Workload, mine: RankParameters) -> Term | None:
        """A copy of the gradients for the optimizer's step, at which the bucket is freed; None: no copy, and the bucket stays."""
        return None
