"""Two runs with one output.destination: while both live, and one after the other."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))

from small_job import config_of

from llmtrain_trainer.agent import outputs
from llmtrain_trainer.agent.claims import Claims
from llmtrain_trainer.agent.outcome import DestinationInUseError, DisownedError, UnfitError
from llmtrain_trainer.checkpoint.owner import KEY
from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.run_dir.layout import RunDir
from llmtrain_trainer.run_dir.notices import told


class Machine:
    """Runs of one machine, each with a directory of its own."""

    def __init__(self, root: Path) -> None:
        self.root, self.place = root, root / "out"

    def config(self, name: str, **changes: Any) -> TrainerConfig:
        given = {"job": {"name": name, "namespace": "a"}, "output": {"destination": f"file://{self.place}"}, **changes}
        return config_of([{"source": "file:///data.jsonl"}], **given)

    def run(self, name: str) -> RunDir:
        return RunDir(self.root / name)

    def claims(self, name: str, **changes: Any) -> Claims:
        return Claims(self.config(name, **changes), self.run(name), lambda _seconds: None)

    def export(self, name: str, *files: str, **changes: Any) -> None:
        for file in files:
            path = self.run(name).export / "full" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        outputs.publish(self.config(name, **changes), self.run(name))

    def there(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in (self.place / "export").rglob("*") if path.is_file()}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_second_run_with_the_same_output_is_refused_while_the_first_lives(machine: Machine) -> None:
    first, second = machine.claims("one"), machine.claims("two")
    first.take_output()
    with pytest.raises(DestinationInUseError) as refused:
        second.take_output()
    said = refused.value.verdict
    assert said.reason == "DestinationInUse" and f"spec.output.destination is file://{machine.place}: a/one" in said.message
    assert "each would replace what the other exports" in said.message and "its own destination" in said.message
    first.release()
    second.take_output()
    assert not told(machine.run("two")), "nothing was exported there"


def test_an_output_that_is_the_place_of_another_ones_checkpoints_is_refused_too(machine: Machine) -> None:
    from llmtrain_trainer.checkpoint.store.destination import open_store

    trains = machine.claims("one", checkpoint={"destination": f"file://{machine.place}/"}, output={})
    trains.take_checkpoints(open_store(f"file://{machine.place}"))
    trains.take_output()
    with pytest.raises(DestinationInUseError):
        machine.claims("two").take_output()


def test_a_run_that_lost_its_output_publishes_nothing(machine: Machine) -> None:
    first, second = machine.claims("one"), machine.claims("two")
    first.take_output()
    (machine.place / KEY).unlink()
    second.take_output()
    with pytest.raises(DisownedError):
        first.check_output()


def test_a_run_tells_at_its_start_whose_exports_it_will_replace(machine: Machine) -> None:
    machine.export("one", "model.safetensors")
    two = machine.claims("two")
    two.take_output()
    two.release()
    (said,) = told(machine.run("two"))
    assert f"holds what a/one (run in {machine.run('one').root}) exported: this run replaces it when training is complete." in said
    one = machine.claims("one")
    one.take_output()
    one.release()
    assert told(machine.run("one")) == (), "the same run again replaces its own"
    machine.claims("three", output={"destination": f"file://{machine.place}", "export": []}).take_output()
    assert told(machine.run("three")) == (), "it exports nothing"


def test_what_another_namespace_exported_is_not_named(machine: Machine) -> None:
    machine.export("secret", "model.safetensors", job={"name": "secret", "namespace": "b"})
    machine.claims("two").take_output()
    (said,) = told(machine.run("two"))
    assert "what a job of another namespace exported" in said and "secret" not in said


def test_no_file_of_another_model_stays_beside_an_export(machine: Machine) -> None:
    """transformers reads model.safetensors where it lies beside the parts of a later model."""
    machine.export("one", "model.safetensors", "config.json")
    (machine.place / "export" / "notes.txt").write_text("a person's own")
    machine.export("two", "model-00001-of-00002.safetensors", "config.json")
    assert machine.there() == {"model-00001-of-00002.safetensors": "two", "config.json": "two", "notes.txt": "a person's own"}


def test_a_record_that_names_other_files_deletes_none(machine: Machine) -> None:
    machine.export("one", "model.safetensors")
    own = machine.place / "checkpoint"
    own.write_text("kept")
    record = machine.place / "published.json"
    record.write_text(
        record.read_text().replace("export/full/model.safetensors", "checkpoint", 1).replace("]", ', "export/../checkpoint"]')
    )
    machine.export("two", "config.json")
    assert own.read_text() == "kept"


def test_files_that_nobody_recorded_are_told_of(machine: Machine) -> None:
    (machine.place / "export").mkdir(parents=True)
    (machine.place / "export" / "model.safetensors").write_text("mine")
    machine.claims("one").take_output()
    assert "holds files in export/ of which no published.json tells" in told(machine.run("one"))[0]


def test_an_output_that_cannot_be_written_is_found_before_training(machine: Machine) -> None:
    machine.place.write_text("a file")
    with pytest.raises(UnfitError) as refused:
        machine.claims("one").take_output()
    assert f"spec.output.destination file://{machine.place}" in refused.value.verdict.message
