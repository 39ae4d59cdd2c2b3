"""The training loop with an engine that only writes down what it is asked: what happens, in which order, and how it ends."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))

from small_job import config_of

from llmtrain_trainer.config import ExitCode, Heartbeat
from llmtrain_trainer.data.step_batch import StepBatch
from llmtrain_trainer.engines.engine import EvaluationResult, StepResult
from llmtrain_trainer.rank.health import Health
from llmtrain_trainer.rank.loop import Loop
from llmtrain_trainer.rank.progress import MetricsLog
from llmtrain_trainer.run_dir.heartbeat import HeartbeatWriter
from llmtrain_trainer.run_dir.layout import RunDir, read_rows
from llmtrain_trainer.run_dir.notices import told

FINE = StepResult(loss=2.0, grad_norm=1.0, stop=False)


@dataclass
class Script:
    """Engine, samples, saver and agreement in one; `done` is what was asked, in order."""

    results: dict[int, StepResult] = field(default_factory=dict)
    """Of the steps that are not FINE."""

    saves: str = "state"
    evaluations: list[EvaluationResult] = field(default_factory=lambda: [EvaluationResult(6.0, 3, {"accuracy": 3.0})])
    weights_are_finite: Callable[[], bool] = lambda: True
    done: list[Any] = field(default_factory=list)
    metas: list[dict[str, Any]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def step_batch(self, consumed: int) -> StepBatch:
        self.done.append(("batch", consumed))
        return StepBatch(columns={"input_ids": torch.zeros(4, 16, dtype=torch.int64)}, packed=False, target_tokens=64)

    def evaluation_batches(self) -> Iterator[StepBatch]:
        for _ in self.evaluations:
            yield StepBatch(columns={}, packed=False, target_tokens=0)

    def train_step(self, batch: StepBatch, *, learning_rate: float, step: int, stop: bool) -> StepResult:
        assert batch.target_tokens == 64
        self.done.append(("step", step))
        self.rates.append(learning_rate)
        found = self.results.get(step, FINE)
        return StepResult(loss=found.loss, grad_norm=found.grad_norm, stop=found.stop or stop)

    def evaluate(self, _: StepBatch) -> EvaluationResult:
        self.done.append("evaluate")
        return self.evaluations[sum(each == "evaluate" for each in self.done) % len(self.evaluations) - 1]

    def finite(self) -> bool:
        return self.weights_are_finite()

    def export(self, directory: Path, kind: str) -> None:
        self.done.append(("export", kind))
        directory.mkdir(parents=True)

    def memory_bytes(self) -> int:
        return 7 * len(self.done)

    def state_dict(self) -> dict[str, Any]:
        return {"weight": 1}

    def save_files(self, directory: Path) -> None: ...

    # -- the saver

    def save(self, name: str, state: dict[str, Any], meta: dict[str, Any]) -> float:
        assert self.saves == "state" and state == {"weight": 1}
        return self._saved(name, meta)

    def write(self, name: str, meta: dict[str, Any]) -> float:
        assert self.saves == "files"
        return self._saved(name, meta)

    def _saved(self, name: str, meta: dict[str, Any]) -> float:
        self.done.append(("save", name))
        self.metas.append(meta)
        return 0.0

    def finish(self) -> None:
        self.done.append("finish")

    # -- the agreement

    def from_first(self, value: int) -> int:
        return value

    def largest(self, value: int) -> int:
        return value

    def asked(self, kind: str) -> list[Any]:
        return [each[1] for each in self.done if isinstance(each, tuple) and each[0] == kind]


class FilesSaver:
    """Gives an engine with files of its own to the same script."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.save, self.finish = script.save, script.finish

    def save_files(self, name: str, write: Callable[[Path], None], meta: dict[str, Any]) -> float:
        assert write == self._script.save_files
        return self._script.write(name, meta)


@pytest.fixture
def loop(tmp_path: Path) -> Callable[..., Loop]:
    def make(script: Script, *, step: int = 0, writer: bool = True, **changes: Any) -> Loop:
        given: dict[str, Any] = {
            "checkpoint": {"destination": "file:///x", "every": {"steps": 4}},
            "output": {"export": ["full"]},
            **changes,
        }
        config = config_of([{"source": "file:///t.jsonl"}], **given)
        run = RunDir(tmp_path)
        pulse = HeartbeatWriter(run.heartbeat(0), 0, 1)
        return Loop(
            config=config,
            run=run,
            engine=script,  # type: ignore[arg-type]
            samples=script,
            writer=FilesSaver(script) if writer else None,
            ranks=script,
            pulse=pulse,
            rows=MetricsLog(config=config, run=run, rank=0, world_size=2, target_steps=10, epoch_samples=40),
            rank=0,
            health=Health(limit=3),
            step=step,
            target_steps=10,
            consumed_samples=8 * step,
            consumed_tokens=128 * step,
            name=lambda number: f"s{number}",
            meta={"attempt": 1, "seed": 5},
        )

    return make


@pytest.mark.parametrize("saves", ["state", "files"])
def test_a_run_trains_every_step_saves_on_time_and_exports_at_the_end(loop: Callable[..., Loop], saves: str) -> None:
    script = Script(saves=saves)
    assert loop(script).train() is ExitCode.DONE
    assert script.asked("step") == list(range(1, 11)) and script.asked("batch") == list(range(0, 80, 8))
    assert script.asked("save") == ["s4", "s8", "s10"], "the last step too"
    assert script.done[-2:] == ["finish", ("export", "full")], "nothing is exported while a save is running"


def test_what_a_save_says_of_itself_is_of_its_step(loop: Callable[..., Loop]) -> None:
    script = Script()
    loop(script).train()
    assert script.metas[0] == {
        "attempt": 1, "seed": 5, "step": 4, "consumed_samples": 32, "consumed_tokens": 512, "target_steps": 10, "diverged": False,
    }  # fmt: skip


def test_each_step_has_its_own_rate_whatever_step_the_run_resumed_at(loop: Callable[..., Loop]) -> None:
    training = {"optimizer": {"learningRate": 0.8}, "schedule": {"name": "linear", "warmupSteps": 2, "minRatio": 0.0}}
    whole, resumed = Script(), Script()
    loop(whole, training=training).train()
    loop(resumed, step=6, training=training).train()
    assert whole.rates == pytest.approx([0.4, 0.8, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    assert resumed.rates == whole.rates[6:]


def test_a_resumed_run_begins_after_its_checkpoint(loop: Callable[..., Loop]) -> None:
    script = Script()
    assert loop(script, step=7).train() is ExitCode.DONE
    assert script.asked("step") == [8, 9, 10] and script.asked("batch") == [56, 64, 72] and script.asked("save") == ["s8", "s10"]


def test_a_run_that_is_complete_already_trains_nothing_and_exports_again(loop: Callable[..., Loop]) -> None:
    script = Script()
    assert loop(script, step=10).train() is ExitCode.DONE
    assert script.done == ["finish", ("export", "full")]


def test_who_is_asked_to_stop_saves_after_that_step_and_leaves(loop: Callable[..., Loop]) -> None:
    script = Script(results={3: StepResult(loss=2.0, grad_norm=1.0, stop=True)})
    assert loop(script).train() is ExitCode.SAVED
    assert script.asked("step") == [1, 2, 3] and script.asked("save") == ["s3"] and script.asked("export") == []


def test_the_stop_file_is_seen_before_the_next_step(loop: Callable[..., Loop]) -> None:
    script = Script()
    made = loop(script)
    made.run.stop.touch()
    assert made.train() is ExitCode.SAVED and script.asked("step") == [1]


def test_without_a_destination_who_is_asked_to_stop_saves_nothing(loop: Callable[..., Loop]) -> None:
    script = Script(results={3: StepResult(loss=2.0, grad_norm=1.0, stop=True)})
    assert loop(script, writer=False, checkpoint=None).train() is ExitCode.STOPPED_UNSAVED
    assert script.asked("save") == [] and script.asked("step") == [1, 2, 3]


def test_a_stop_at_the_last_step_is_the_end(loop: Callable[..., Loop]) -> None:
    assert loop(Script(results={10: StepResult(loss=2.0, grad_norm=1.0, stop=True)})).train() is ExitCode.DONE


def test_a_step_that_is_not_finite_is_saved_later(loop: Callable[..., Loop]) -> None:
    script = Script(results={4: StepResult(loss=math.nan, grad_norm=1.0, stop=False)})
    made = loop(script)
    assert made.train() is ExitCode.DONE
    assert script.asked("save") == ["s5", "s8", "s10"], "what was owed at step 4 comes with the next sound step"
    assert told(made.run) == ("Step 4 had a loss of nan and a gradient norm of 1.",)


def test_too_many_of_them_end_training_with_what_was_saved_before(loop: Callable[..., Loop]) -> None:
    script = Script(results={step: StepResult(loss=math.nan, grad_norm=1.0, stop=False) for step in (5, 6, 7)})
    made = loop(script)
    assert made.train() is ExitCode.DIVERGED
    assert script.asked("save") == ["s4"] and script.done[-1] == "finish" and script.asked("step")[-1] == 7
    assert made.run.diverged.read_text().startswith("Training diverged: loss or gradient norm of the last 3 steps up to step 7")
    assert next(reversed(list(read_rows(made.run.metrics))))["step"] == 7, "the rows tell it to the last step"


def test_a_last_step_that_is_not_finite_exports_nothing(loop: Callable[..., Loop]) -> None:
    script = Script(results={10: StepResult(loss=math.nan, grad_norm=1.0, stop=False)})
    made = loop(script)
    assert made.train() is ExitCode.DIVERGED and script.asked("export") == [] and script.asked("save") == ["s4", "s8"]
    assert "of the last step, 10, were not finite" in made.run.diverged.read_text()


def test_weights_that_are_not_finite_are_never_saved(loop: Callable[..., Loop]) -> None:
    script = Script()
    script.weights_are_finite = lambda: script.asked("step")[-1] < 8
    made = loop(script)
    assert made.train() is ExitCode.DIVERGED and script.asked("save") == ["s4"]
    assert "not finite after step 8" in made.run.diverged.read_text()


def test_evaluations_come_on_time_and_once_at_the_end(loop: Callable[..., Loop]) -> None:
    script = Script(evaluations=[EvaluationResult(6.0, 3, {"accuracy": 2.0}), EvaluationResult(2.0, 1, {"accuracy": 1.0})])
    made = loop(script, evaluation={"split": 0.2, "everySteps": 5})
    made.train()
    rows = {row["step"]: row for row in read_rows(made.run.metrics)}
    assert [step for step, row in rows.items() if "validationLoss" in row] == [5, 10]
    assert rows[5]["validationLoss"] == 8.0 / 4 and rows[5]["validationMetrics"] == {"accuracy": 3.0 / 4}
    assert sum(each == "evaluate" for each in script.done) == 4


def test_an_evaluation_without_targets_says_nothing(loop: Callable[..., Loop]) -> None:
    made = loop(Script(evaluations=[EvaluationResult(0.0, 0, {})]), evaluation={"split": 0.2, "everySteps": 5})
    assert made.train() is ExitCode.DONE
    assert not [row for row in read_rows(made.run.metrics) if "validationLoss" in row]


def test_an_evaluation_that_is_not_finite_puts_the_save_off(loop: Callable[..., Loop]) -> None:
    script = Script(evaluations=[EvaluationResult(math.inf, 3, {})])
    assert loop(script, evaluation={"split": 0.2, "everySteps": 4}).train() is ExitCode.DIVERGED
    assert script.asked("save") == ["s5", "s9"] and script.asked("export") == []


def test_the_heartbeat_ends_in_what_was_done_last(loop: Callable[..., Loop]) -> None:
    made = loop(Script())
    made.train()
    beat = Heartbeat.model_validate_json(made.run.heartbeat(0).read_text())
    assert (beat.step, beat.phase) == (10, "export")


def test_whatever_takes_time_is_named_in_the_heartbeat_before_it_begins(loop: Callable[..., Loop], monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank that is silent for long is taken for one that hangs, in a phase that has its own patience."""
    script = Script(evaluations=[EvaluationResult(6.0, 3, {})] * 2)
    monkeypatch.setattr(HeartbeatWriter, "beat", lambda _, phase, *__: script.done.append(f"beat {phase}"))
    loop(script, step=7, evaluation={"split": 0.2, "everySteps": 5}).train()
    names = {"batch": "data", "finish": "save"}
    for beat, done in itertools.pairwise(script.done):
        kind = done[0] if isinstance(done, tuple) else done
        if not kind.startswith("beat "):
            assert beat == f"beat {names.get(kind, kind)}", kind
    assert {"beat evaluate", "beat export", "beat save"} <= {each for each in script.done if isinstance(each, str)}


def test_an_earlier_export_gives_way(loop: Callable[..., Loop]) -> None:
    made = loop(Script())
    (made.run.export / "merged").mkdir(parents=True)
    made.train()
    assert [path.name for path in made.run.export.iterdir()] == ["full"]
