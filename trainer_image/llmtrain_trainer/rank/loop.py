"""The training loop of one rank: batch, step, row, evaluation, checkpoint, until the target or a stop.

Every rank runs the same lines in the same order, since most of them are collective; only rank 0 writes rows.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from llmtrain_trainer.config import ExitCode, TrainerConfig
from llmtrain_trainer.config.learning_rate import learning_rate
from llmtrain_trainer.data.cache import DONE
from llmtrain_trainer.data.prepared import Prepared
from llmtrain_trainer.data.step_batch import StepBatch
from llmtrain_trainer.engines.engine import Engine, EvaluationResult
from llmtrain_trainer.model.generation import name_end, name_pad
from llmtrain_trainer.rank.cadence import SaveCadence
from llmtrain_trainer.rank.health import Health
from llmtrain_trainer.rank.progress import MetricsLog, Step, StepExtras, Validation
from llmtrain_trainer.run_dir.heartbeat import HeartbeatWriter
from llmtrain_trainer.run_dir.layout import RunDir, write_atomically
from llmtrain_trainer.run_dir.notices import tell

_PEAK_EVERY_STEPS = 32
"""Steps between comparisons of peak memory over ranks: after the first steps it hardly changes."""


class StepBatches(Protocol):
    """What the loop needs of data.samples.Samples."""

    def step_batch(self, consumed: int) -> StepBatch: ...
    def evaluation_batches(self) -> Iterator[StepBatch]: ...


class Saver(Protocol):
    """What the loop needs of checkpoint.writer.CheckpointWriter."""

    def save(self, name: str, state: dict[str, Any], meta: dict[str, Any]) -> float: ...
    def save_files(self, name: str, write: Callable[[Path], None], meta: dict[str, Any]) -> float: ...
    def finish(self) -> None: ...


class RankAgreement(Protocol):
    """The two small values that ranks agree on outside the engine."""

    def from_first(self, value: int) -> int:
        """Rank 0's value, on every rank."""
        ...

    def largest(self, value: int) -> int:
        """The largest value of any rank."""
        ...


@dataclass(slots=True, kw_only=True)
class Loop:
    """One rank's run from `step` (completed steps) to `target_steps`."""

    config: TrainerConfig
    run: RunDir
    engine: Engine
    samples: StepBatches
    writer: Saver | None
    ranks: RankAgreement
    pulse: HeartbeatWriter
    rows: MetricsLog
    rank: int
    health: Health
    step: int
    target_steps: int
    consumed_samples: int
    """Samples consumed by the steps done so far."""
    consumed_tokens: int
    """Tokens of these samples, with padding."""
    name: Callable[[int], str]
    """Name of the checkpoint of a step."""
    meta: dict[str, Any]
    """Facts in the meta.json of every checkpoint: attempt, round, mesh, hashes."""
    _peak: int = 0

    def train(self) -> ExitCode:
        """Train. Returns DONE at the target, SAVED or STOPPED_UNSAVED after a stop before it, DIVERGED if no later step can be saved."""
        cadence = self._cadence()
        first = self.step + 1
        stopped = owed = False
        while self.step < self.target_steps and not stopped:
            step = self._one_step(self.step + 1)
            last, stopped = self.step == self.target_steps, step.result.stop
            validation = self._evaluate(last=last) if not stopped or last else None
            self._tell(self.health.judge(self.step, step.result, validation.loss if validation else None))
            blocked, spoilt = 0.0, self.health.over(self.step, last=last)
            owed = owed or (cadence is not None and cadence.due(self.step, step.seconds)) or last or stopped
            if owed and self.health.sound and spoilt is None:
                spoilt = self._spoilt_weights()
            if cadence is not None and owed and self.health.sound and spoilt is None:
                blocked, owed = self._save(), False
                cadence.saved()
            if self.step - first < 2 or self.step % _PEAK_EVERY_STEPS == 0 or last:
                self._peak = self.ranks.largest(self.engine.memory_bytes())
            aside = StepExtras(validation=validation, blocked_seconds=blocked, memory_bytes=self._peak or None)
            self.rows.done(step, aside, leaving=last or stopped or spoilt is not None)
            if spoilt is not None:
                return self._give_up(spoilt)
        return self._leave()

    def _one_step(self, number: int) -> Step:
        self.pulse.beat("data")
        began = time.perf_counter()
        batch = self.samples.step_batch(self.consumed_samples)
        waited = time.perf_counter() - began
        self.pulse.beat("step")
        rate = learning_rate(self.config.training, number, self.target_steps)
        result = self.engine.train_step(batch, learning_rate=rate, step=number, stop=self.run.stop.exists())
        self.step, self.pulse.rank_seconds = number, result.rank_seconds
        self.consumed_samples += self.config.batch.global_size
        self.consumed_tokens += self.config.batch.global_size * self.config.training.sequence_length
        self.pulse.beat("step", number)
        return Step(
            number=number,
            consumed_samples=self.consumed_samples,
            consumed_tokens=self.consumed_tokens,
            learning_rate=rate,
            result=result,
            seconds=time.perf_counter() - began,
            data_seconds=waited,
        )

    def _cadence(self) -> SaveCadence | None:
        if self.config.checkpoint is None or self.writer is None:
            return None
        return SaveCadence(self.config.checkpoint.every, self.ranks.from_first, time.monotonic)

    def _evaluate(self, *, last: bool) -> Validation | None:
        """Means over the validation samples; None if no evaluation is due or there are no samples."""
        evaluation = self.config.evaluation
        if evaluation is None or not (last or self.step % evaluation.every_steps == 0):
            return None
        parts = []
        for batch in self.samples.evaluation_batches():
            self.pulse.beat("evaluate")
            parts.append(self.engine.evaluate(batch))
        return _mean(parts)

    def _save(self) -> float:
        """Seconds that training was blocked."""
        assert self.writer is not None
        self.pulse.beat("save")
        meta = {
            **self.meta,
            "step": self.step,
            "consumed_samples": self.consumed_samples,
            "consumed_tokens": self.consumed_tokens,
            "target_steps": self.target_steps,
            "diverged": self.health.diverged,
        }
        began = time.perf_counter()
        if self.engine.saves == "state":
            self.writer.save(self.name(self.step), self.engine.state_dict(), meta)
        else:
            self.writer.save_files(self.name(self.step), self.engine.save_files, meta)
        return time.perf_counter() - began

    def _spoilt_weights(self) -> str | None:
        """A sentence if weights or optimizer state of any rank are not finite, else None. Collective."""
        if not self.ranks.largest(int(not self.engine.finite())):
            return None
        return f"Training diverged: weights or optimizer hold values that are not finite after step {self.step}."

    def _tell(self, sentence: str | None) -> None:
        if sentence is not None and self.rank == 0:
            tell(self.run, sentence)

    def _give_up(self, why: str) -> ExitCode:
        """Wait for the save that is running, whose step was sound; then write the reason for the agent."""
        if self.writer is not None:
            self.pulse.beat("save")
            self.writer.finish()
        write_atomically(self.run.diverged, why)
        return ExitCode.DIVERGED

    def _leave(self) -> ExitCode:
        done = self.step >= self.target_steps
        if done and not self.health.sound:
            return self._give_up(f"Training diverged: loss, gradient norm or evaluation of the last step, {self.step}, were not finite.")
        if self.writer is not None:
            self.pulse.beat("save")
            self.writer.finish()
        if not done:
            return ExitCode.SAVED if self.writer is not None and self.health.sound else ExitCode.STOPPED_UNSAVED
        if self.rank == 0:  # which alone writes there
            shutil.rmtree(self.run.export, ignore_errors=True)
        for kind in self.config.output.export:
            self.pulse.beat("export")
            self._export(kind)
        return ExitCode.DONE

    def _export(self, kind: str) -> None:
        """Weights and tokenizer side by side, as transformers reads them."""
        directory = self.run.export / kind
        self.engine.export(directory, kind)
        tokenizer = self.run.prepared / "tokenizer"
        if self.rank == 0 and tokenizer.is_dir():
            shutil.copytree(tokenizer, directory, dirs_exist_ok=True, ignore=shutil.ignore_patterns(DONE))
            prepared = Prepared.load(self.run.prepared)
            name_end(directory, prepared.ends)
            if prepared.labels:
                name_pad(directory)


def _mean(parts: Sequence[EvaluationResult]) -> Validation | None:
    """Means over all targets of the parts; None if they have none."""
    targets = sum(part.targets for part in parts)
    if not targets:
        return None
    metrics = {name: sum(part.metrics[name] for part in parts) / targets for name in parts[0].metrics}
    return Validation(loss=sum(part.loss for part in parts) / targets, metrics=metrics)
