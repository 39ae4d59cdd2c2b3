"""What the memory of a rank depends on, and a line of its estimate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llmtrain_operator.plan.memory import bytes_per_parameter
from llmtrain_operator.plan.model.shape import ModelShape
from llmtrain_trainer.config import Batch, EngineName, Mesh, Offload, Peft, Training


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
    engine: EngineName
    peft: Peft | None
    eager: bool
    packed: bool
    """Rows hold several samples, so attention is given a mask."""

    on_gpu: bool
    offload: Offload = bytes_per_parameter.NOWHERE
    sharing: Mapping[str, Any] = field(default_factory=dict)
    """zero_optimization of the raw DeepSpeed keys, whose buffers may be of other sizes than DeepSpeed's own."""

    @property
    def sequence_parts(self) -> int:
        """Parts into which tensor-parallel ranks cut what lies between matrices: Korthikanti et al. 2022, section 4.2.2."""
        return self.mesh.tp if self.engine == "megatron" else 1

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
