"""What the memory of a rank depends on, and a line of its estimate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from llmtrain_operator.plan.memory import activations
from llmtrain_operator.plan.memory.bytes_per_parameter import NOWHERE, StateBytes
from llmtrain_operator.plan.model.shape import ModelShape
from llmtrain_operator.plan.model.weights import Held
from llmtrain_trainer.config import Batch, Mesh, Offload, Peft, Training


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One line of the estimate."""

    name: str
    bytes: int
    how: str
    """The formula in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What memory depends on."""

    shape: ModelShape
    mesh: Mesh
    batch: Batch
    training: Training
    engine: EngineMemory
    peft: Peft | None
    eager: bool
    packed: bool
    """Rows hold several samples, so attention is given a mask."""

    on_gpu: bool
    offload: Offload = NOWHERE
    sharing: Mapping[str, Any] = field(default_factory=dict)
    """zero_optimization of the raw DeepSpeed keys, whose buffers may be of other sizes than DeepSpeed's own."""

    @property
    def sequence_parts(self) -> int:
        """Parts into which tensor-parallel ranks cut what lies between matrices."""
        return self.engine.sequence_parts(self.mesh)

    @property
    def away(self) -> Offload:
        """What is not in the memory that counts here: of a CPU rank that is the host's, which `cpu` offload stays in."""
        if self.on_gpu:
            return self.offload
        kept = {name: "none" for name in ("optimizer", "parameters") if getattr(self.offload, name) == "cpu"}
        return self.offload.model_copy(update=kept)

    @property
    def element(self) -> int:
        """Bytes of a value that is computed with."""
        return 2 if self.training.precision == "bf16" else 4

    @property
    def tokens(self) -> int:
        """Of a micro-batch on one rank."""
        return self.batch.micro_size * self.training.sequence_length // self.mesh.cp

    @property
    def replicas(self) -> int:
        """Ranks that share out a weight between them: each sees other tokens."""
        return self.mesh.dp * self.mesh.cp

    @property
    def virtual(self) -> int:
        """Stages a rank holds."""
        return len(self.mesh.stages) // self.mesh.pp


@dataclass(frozen=True, slots=True, kw_only=True)
class LossBytes:
    """How an engine computes the loss from logits."""

    whole: bool
    """Whether a rank has the logits of the whole vocabulary."""

    overwritten: bool
    """Whether the gradient takes the place of the logits, chunk by chunk."""

    each: int
    """Bytes a logit in fp32 otherwise."""


class EngineMemory(ABC):
    """What an engine keeps in memory otherwise than others. The methods that are written out hold for an engine that shards nothing."""

    @abstractmethod
    def trained(self, zero: int, precision: str, dp: int, offload: Offload) -> StateBytes:
        """Bytes on each rank for every weight that AdamW trains, sharded over `dp` ranks. `offload`: what is not on the device."""

    @abstractmethod
    def frozen(self, zero: int, precision: str, dp: int) -> float:
        """Bytes on each rank for a frozen weight of a matrix inside the layers."""

    @abstractmethod
    def loss(self, run: Run, vocabulary_parts: int) -> LossBytes:
        """Where tensor parallelism cuts the vocabulary into so many parts."""

    def sequence_parts(self, mesh: Mesh) -> int:
        """Parts into which tensor-parallel ranks cut the values between matrices."""
        return 1

    def layer_bytes(self, run: Run, layer: int) -> float:
        """Bytes a token that a layer keeps for its backward pass."""
        sequence = run.training.sequence_length
        return activations.layer_bytes(run.shape, layer, sequence=sequence, element=run.element, tp=run.mesh.tp, eager=run.eager)

    def gradients_always_there(self, run: Run) -> bool:
        """Whether gradients have a buffer that is there before the first of them."""
        return False

    def working_copies(self, run: Run, mine: Held) -> Iterator[Term]:
        """Weights that exist a second time while the layers compute, in the precision they compute in."""
        yield from ()

    def adds_up_whole_gradients(self, run: Run) -> bool:
        """Whether micro-batches are added up in unsharded gradients."""
        return False

    def reduces_by_unit(self, run: Run) -> bool:
        """Whether whole gradients become shards unit by unit, while backward goes on."""
        return False

    def bucket(self, run: Run, mine: Held) -> Term:
        """Where gradients are collected for a reduction."""
        return Term(name="reduction bucket", bytes=0, how="there is none")

    def step_copy(self, run: Run, mine: Held) -> Term | None:
        """A copy of the gradients for the optimizer's step, by which the bucket is gone; None: there is none, and the bucket stays."""
        return None
