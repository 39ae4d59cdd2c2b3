"""The Protocol between the training loop and the engine that runs its steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from llmtrain_trainer.data.step_batch import StepBatch

if TYPE_CHECKING:
    from llmtrain_trainer.checkpoint_readers.reader import CheckpointReader


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """The result of a step; equal on every rank unless a field says otherwise."""

    loss: float
    """Mean over the target tokens of the global batch, nats."""

    grad_norm: float
    """L2 norm of the gradient of the whole model, before clipping."""

    stop: bool
    """True when any rank was asked to stop; every rank then leaves after the same step."""

    phase_seconds: Mapping[str, float] = field(default_factory=dict)
    """Seconds of this rank by phase, named as in config.Progress; empty if the engine measures none. Differs between ranks."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    """The objective's metrics, each the mean over the target tokens of the global batch."""

    skipped: bool = False
    """The update was skipped because loss or norm were not finite: the weights are those of the previous step."""

    rank_seconds: tuple[float, ...] = ()
    """Recent step time by rank, without waits for other ranks if the engine can tell them; empty if it measures none."""


class EvaluationResult(NamedTuple):
    """The result of evaluating one global batch; equal on every rank."""

    loss: float
    """Sum over the targets, nats."""

    targets: int
    """Number of targets."""

    metrics: Mapping[str, float]
    """The objective's metrics, each summed over the targets."""


class Steps(Protocol):
    """Methods of every engine, collective over all ranks unless one says otherwise. Built once per process, after init_process_group."""

    @property
    def replica(self) -> int:
        """Data-parallel index of this rank, 0 <= replica < dp, which selects its rows of the global batch."""
        ...

    def train_step(self, batch: StepBatch, *, learning_rate: float, step: int, stop: bool) -> StepResult:
        """Forward, backward, clip, optimizer step. `stop` is this rank's wish, OR-ed over all ranks in the result."""
        ...

    def evaluate(self, batch: StepBatch) -> EvaluationResult:
        """Loss and metrics of this global batch, without training."""
        ...

    def finite(self) -> bool:
        """Whether this rank's weights and their copies in its optimizer are finite. Not collective: ranks may differ."""
        ...

    def load_checkpoint(self, directory: Path) -> None:
        """Load a checkpoint that own_format.py calls this engine's own, from a directory of its files."""
        ...

    def load_foreign_checkpoint(self, source: CheckpointReader) -> None:
        """Load weights and optimizer from a checkpoint of another engine, or of this one in a layout that `load_checkpoint` cannot read."""
        ...

    def export(self, directory: Path, kind: str) -> None:
        """Write `full`, `adapter` or `merged` weights in Hugging Face's format; rank 0 writes."""
        ...

    def memory_bytes(self) -> int:
        """Peak memory of this process so far, in bytes: of the CUDA allocator, or the resident set on a CPU."""
        ...


class StateEngine(Steps, Protocol):
    """An engine whose checkpoint is one DCP state: it is copied to host memory, then written while training continues."""

    saves: Literal["state"]

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimizer as DCP saves them: names and values do not depend on the layout. With adapters: the adapters only."""
        ...


class FileEngine(Steps, Protocol):
    """An engine that writes the files of a checkpoint itself, while training waits."""

    saves: Literal["files"]

    def save_files(self, directory: Path) -> None:
        """Write this rank's files, without subdirectories, into `directory`: an empty one that is this rank's alone.

        No two ranks may write a file of the same name; together the files of all ranks are the checkpoint.
        """
        ...


Engine = StateEngine | FileEngine
