"""What an engine is: the small Protocol between the training loop and whatever runs the steps."""

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
    """What a step gave; equal on every rank unless a field says otherwise."""

    loss: float
    """Mean over the target tokens of the global batch, nats."""

    grad_norm: float
    """Of the whole model, before clipping."""

    stop: bool
    """True when any rank was asked to stop; every rank then leaves after the same step."""

    phase_seconds: Mapping[str, float] = field(default_factory=dict)
    """Of this rank, by phase, as config.Progress names them; empty where the engine does not tell. The one field that ranks differ in."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    """The objective's metrics, each the mean over the target tokens of the global batch."""

    skipped: bool = False
    """The update was left out because loss or norm were not finite: weights are those of the step before."""

    rank_seconds: tuple[float, ...] = ()
    """By rank: a step of its own lately, waits for others left out where the engine sees them; empty where it does not tell."""


class EvaluationResult(NamedTuple):
    """What an evaluation of one global batch gave; equal on every rank."""

    loss: float
    """Sum over the targets, nats."""

    targets: int
    """How many."""

    metrics: Mapping[str, float]
    """The objective's metrics, each summed over the targets."""


class Steps(Protocol):
    """What every engine does. Built once a process, after init_process_group; every method is collective over all ranks."""

    @property
    def replica(self) -> int:
        """Data-parallel index of this rank, 0 <= replica < dp: which rows of the global batch it computes."""
        ...

    def train_step(self, batch: StepBatch, *, learning_rate: float, step: int, stop: bool) -> StepResult:
        """Forward, backward, clip, optimizer step. `stop` is this rank's wish, OR-ed over all ranks in the result."""
        ...

    def evaluate(self, batch: StepBatch) -> EvaluationResult:
        """Loss and metrics of this global batch, without training."""
        ...

    def finite(self) -> bool:
        """Whether the weights of this rank, and what its optimizer holds of them, are finite. Not collective: ranks may differ."""
        ...

    def load_checkpoint(self, directory: Path) -> None:
        """Load a checkpoint that own_format.py calls this engine's own, from a directory of its files."""
        ...

    def load_foreign_checkpoint(self, source: CheckpointReader) -> None:
        """Take over weights and optimizer from any other checkpoint: of another engine, or of this one where it cannot read it itself."""
        ...

    def export(self, directory: Path, kind: str) -> None:
        """Write `full`, `adapter` or `merged` weights in Hugging Face's format; rank 0 writes."""
        ...

    def memory_bytes(self) -> int:
        """Peak of this process so far: of the CUDA allocator, or resident set on a CPU."""
        ...


class StateEngine(Steps, Protocol):
    """An engine whose checkpoint is one DCP state: copied to host memory, then written behind training's back."""

    saves: Literal["state"]

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimizer as DCP saves them: names and values do not depend on the layout. Of a LoRA run: adapters only."""
        ...


class FileEngine(Steps, Protocol):
    """An engine whose checkpoint is files that it writes itself, while training waits."""

    saves: Literal["files"]

    def save_files(self, directory: Path) -> None:
        """Write this rank's files, without subdirectories, into `directory`: an empty one that is this rank's alone.

        No two ranks may write a file of the same name; together the files of all ranks are the checkpoint.
        """
        ...


Engine = StateEngine | FileEngine
