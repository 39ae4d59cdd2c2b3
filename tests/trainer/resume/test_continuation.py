"""What a run may change and go on: each field of the configuration against what a checkpoint recorded."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

sys.path.insert(0, str(Path(__file__).parent))

from resuming import LORA, SHAPE, Runs, manifest_of, pretrained

from llmtrain_trainer.checkpoint.manifest import Meta
from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.data.mixing.succession import followed_by
from llmtrain_trainer.data.prepared import Prepared
from llmtrain_trainer.data.samples import open_samples
from llmtrain_trainer.resume.continuation import resumption
from llmtrain_trainer.resume.rules import RULES


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def test_the_same_run_goes_on_without_a_word(runs: Runs) -> None:
    found = runs.go_on(runs.save(runs.config()), runs.config())
    assert (found.refused, found.told, found.consumed_samples, found.target_steps) == (None, (), 24, 10)


TOLD = {
    "batch": ({"training": {"globalBatchSize": 4}}, "spec.training.globalBatchSize is 4 and was 8"),
    "length": ({"training": {"sequenceLength": 8}}, "spec.training.sequenceLength is 8 and was 16"),
    "seed": ({"training": {"seed": 7}}, "spec.training.seed is 7 and was 1"),
    "precision": ({"training": {"precision": "fp32"}}, "spec.training.precision is fp32 and was bf16"),
    "rate": ({"training": {"optimizer": {"learningRate": 1e-2}}}, "spec.training.optimizer.learningRate is 0.01 and was 0.0003"),
    "decay": ({"training": {"optimizer": {"weightDecay": 0.5}}}, "spec.training.optimizer.weightDecay is 0.5"),
    "clipping": ({"training": {"gradientClipping": 2}}, "spec.training.gradientClipping is 2.0 and was 1.0"),
    "held back": ({"evaluation": {"split": 0.4}}, "spec.evaluation.split is 0.4 and was 0.2"),
    "length of the schedule": (
        {"training": {"maxSteps": 20}},
        "the schedule runs to step 20 instead of 10: the learning rate of step 4 is",
    ),
    "warm-up": ({"training": {"schedule": {"warmupSteps": 5}}}, "the learning rate of step 4 is 0.00024, and would have been"),
}


@pytest.mark.parametrize("changes, sentence", TOLD.values(), ids=list(TOLD))
def test_what_changes_the_result_is_told(runs: Runs, changes: dict[str, Any], sentence: str) -> None:
    found = runs.go_on(runs.save(runs.config()), runs.config(**changes))
    assert found.refused is None
    assert any(sentence in told for told in found.told), found.told


@pytest.mark.parametrize("changes, sentence", TOLD.values(), ids=list(TOLD))
def test_a_finished_run_is_not_called_complete_with_what_it_never_trained_with(runs: Runs, changes: dict[str, Any], sentence: str) -> None:
    found = runs.go_on(runs.save(runs.config(), step=10), runs.config(**changes))
    training = changes.get("training", {})
    if "maxSteps" in training:
        assert found.refused is None, "there is more to train"
    else:
        sentence = "spec.training.schedule.warmupSteps is 5 and was 0" if "schedule" in training else sentence
        assert found.refused is not None and sentence in found.refused
        assert "Raise spec.training.maxSteps to continue training, or train from step 0 with another" in found.refused


def test_a_finished_run_is_finished_again(runs: Runs) -> None:
    found = runs.go_on(runs.save(runs.config(), step=10), runs.config(output={"export": []}))
    assert (found.refused, found.told) == (None, ())


def test_fewer_steps_than_were_done_are_refused(runs: Runs) -> None:
    found = runs.go_on(runs.save(runs.config(), step=9), runs.config(training={"maxSteps": 8}))
    assert found.refused is not None and "spec.training.maxSteps is 8" in found.refused and "at least 9" in found.refused


@pytest.mark.parametrize("also", [{}, {"optimizer": {"learningRate": 1e-2}}])
def test_the_number_to_which_steps_are_to_be_raised_is_enough(runs: Runs, also: dict[str, Any]) -> None:
    saved = runs.save(runs.config(), step=9)
    found = runs.go_on(saved, runs.config(training={**also, "maxSteps": 8}))
    assert found.refused is not None
    number = int(found.refused.partition("Raise it to at least ")[2].partition(",")[0])
    assert runs.go_on(saved, runs.config(training={**also, "maxSteps": number})).refused is None


REFUSED = {
    "task": ({}, {"task": "sft"}, "spec.task is sft and was pretrain"),
    "layers": ({}, {"model": {"config": SHAPE | {"num_hidden_layers": 2}}}, "num_hidden_layers is 2 and was 4"),
    "heads": ({}, {"model": {"config": SHAPE | {"num_attention_heads": 8}}}, "num_attention_heads is 8 and was 4"),
    "rope": ({}, {"model": {"config": SHAPE | {"rope_theta": 5e5}}}, "rope_theta is 500000.0 and was 10000.0"),
    "head": ({}, {"model": {"config": SHAPE | {"tie_word_embeddings": False}}}, "tie_word_embeddings is false and was true"),
    "norm": ({}, {"model": {"config": SHAPE | {"rms_norm_eps": 1e-3}}}, "rms_norm_eps is 0.001 and was 1e-06"),
    "adapters begun": ({}, {"peft": LORA}, "spec.peft is set and was not set"),
    "adapters left out": ({"peft": LORA}, {"peft": None}, "spec.peft is not set and was set"),
    "rank": ({"peft": LORA}, {"peft": LORA | {"rank": 4}}, "spec.peft.rank is 4 and was 8"),
    "alpha": ({"peft": LORA}, {"peft": LORA | {"alpha": 32}}, "spec.peft.alpha is 32.0 and was 16.0"),
    "method": ({"peft": LORA}, {"peft": LORA | {"method": "rslora"}}, "spec.peft.method is rslora and was lora"),
    "targets": ({"peft": LORA}, {"peft": LORA | {"targetModules": ["q_proj"]}}, "spec.peft.targetModules is q_proj and was all-linear"),
    "base of adapters": ({"peft": LORA}, {"peft": LORA, "training": {"seed": 3}}, "weights drawn from seed 3 is another base"),
    "vocabulary": ({}, {"tokenizer": {"train": {"algorithm": "bpe", "vocabSize": 280}}}, "spec.tokenizer is"),
}


@pytest.mark.parametrize("before, now, clause", REFUSED.values(), ids=list(REFUSED))
def test_what_makes_another_model_is_refused(runs: Runs, before: dict[str, Any], now: dict[str, Any], clause: str) -> None:
    manifest = runs.save(runs.config(**before))
    if "task" in now:  # its data would have to be other data too
        config = runs.config(**before)
        prepared = runs.job.prepare(config)
        found = resumption(manifest, config.model_copy(update={"task": "sft"}), prepared)
    else:
        found = runs.go_on(manifest, runs.config(**before | now))
    assert found.refused is not None and clause in found.refused
    assert (
        "Restore the earlier values, or train from step 0 with another spec.checkpoint.destination or with spec.checkpoint.resume: none."
        in found.refused
    )


def test_another_base_model_of_the_same_shape_is_refused(runs: Runs, tmp_path: Path) -> None:
    one, other = pretrained(tmp_path / "one", 1), pretrained(tmp_path / "other", 2)
    copy = pretrained(tmp_path / "copy", 1)
    tokenizer = {"tokenizer": {"train": {"algorithm": "bpe", "vocabSize": 300}}}
    for more in ({}, {"peft": LORA}):
        manifest = runs.save(runs.config(model=one, **tokenizer, **more))
        assert runs.go_on(manifest, runs.config(model=copy, **tokenizer, **more)).refused is None, "the same weights elsewhere"
        refused = runs.go_on(manifest, runs.config(model=other, **tokenizer, **more)).refused
        assert refused is not None and f"spec.model.source {other['source']} is another base" in refused


def test_samples_are_counted_by_the_checkpoint_when_the_batch_changes(runs: Runs) -> None:
    """3 steps of 8, then steps of 4: no row of the first pass comes twice, and none is left out."""
    first, then = (
        runs.config(mesh={"dp": 1, "stages": [[0, 2]]}),
        runs.config(
            mesh={"dp": 1, "stages": [[0, 2]]}, training={"globalBatchSize": 4}, batch={"globalSize": 4, "microSize": 2, "accumulation": 2}
        ),
    )
    manifest = runs.save(first)
    rows = Prepared.load(runs.job.run.prepared).train_samples
    before = open_samples(runs.job.run.prepared, first.model_copy(update={"batch": first.batch.model_copy(update={"accumulation": 4})}), 0)
    seen = [row for step in range(3) for row in before.step_batch(8 * step)["input_ids"].tolist()]
    found = runs.go_on(manifest, then)
    after, consumed = open_samples(runs.job.run.prepared, then, 0, found.course), found.consumed_samples
    while consumed + 4 <= rows:
        seen += after.step_batch(consumed)["input_ids"].tolist()
        consumed += 4
    assert len({tuple(row) for row in seen}) == len(seen) == consumed


def test_epochs_end_where_the_samples_do_when_the_batch_changes(runs: Runs) -> None:
    epochs = {"maxSteps": None, "epochs": 2}
    manifest = runs.save(runs.config(training=epochs))
    found = runs.go_on(manifest, runs.config(training=epochs | {"globalBatchSize": 4}))
    samples = Prepared.load(runs.job.run.prepared).train_samples
    assert 2 * samples <= found.consumed_samples + 4 * (found.target_steps - 3) < 2 * samples + 4


def test_a_dataset_that_stays_goes_on_where_it_was_beside_one_that_is_new(runs: Runs) -> None:
    kept = runs.kept_tokenizer()
    manifest = runs.save(runs.config(**kept))
    more = [*runs.text, {"source": runs.job.text_file("more.jsonl", 50, 500), "weight": 3}]
    found = runs.go_on(manifest, runs.config(dataset=more, **kept))
    assert [part.before for part in found.course.parts] == [24, 0]
    assert "1 of 2 datasets continue where they stopped, 1 start with their first sample." in found.told[0]
    again = followed_by(found.course, runs.job.prepare(runs.config(**kept)).course(1), 24 + 40)
    assert (again.start, again.parts[0].before, again.parts[0].key) == (64, 34, 0), "a quarter of 40 samples came from it"


def test_other_data_in_the_same_file_is_told(runs: Runs) -> None:
    manifest = runs.save(runs.config())
    runs.job.text_file(count=80, start=30)
    found = runs.go_on(manifest, runs.config(tokenizer={"train": {"algorithm": "bpe", "vocabSize": 300}}))
    assert "spec.tokenizer" in (found.refused or ""), "it was trained from this data"
    assert any("spec.dataset has other rows" in sentence for sentence in found.told)


def test_a_checkpoint_of_an_earlier_version_is_compared_as_far_as_it_goes(runs: Runs) -> None:
    config = runs.config()
    runs.job.prepare(config)
    digest = Prepared.load(runs.job.run.prepared).tokenizer_digest
    meta = Meta(step=3, consumed_samples=24, seed=2, tokenizer_hash=digest, global_size=4)  # type: ignore[call-arg]
    found = runs.go_on(manifest_of(meta), config)
    assert found.refused is None and "records neither data nor training settings" in found.told[0]
    assert [field in " ".join(found.told) for field in ("training.seed is 1 and was 2", "globalBatchSize is 8 and was 4")] == [True, True]
    other = runs.go_on(manifest_of(meta.model_copy(update={"tokenizer_hash": "x"})), config)
    assert other.refused is not None and f"spec.tokenizer is {digest} and was x" in other.refused


def _leaves(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        inner = next((kind for kind in _types(field.annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        yield from [path] if inner is None else _leaves(inner, f"{path}.")


def _types(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _types(part)


def test_every_field_of_the_configuration_has_its_rule() -> None:
    fields = [rule.field for rule in RULES]
    lacking = [leaf for leaf in _leaves(TrainerConfig) if not any(leaf == field or leaf.startswith(f"{field}.") for field in fields)]
    assert lacking == []
    assert len(set(fields)) == len(fields)
    assert not [field for field in fields if not any(leaf == field or leaf.startswith(f"{field}.") for leaf in _leaves(TrainerConfig))]
    told = {rule.field for rule in RULES if rule.kind != "exactly"}
    sections = ("training.", "peft.")
    named = [leaf for leaf in _leaves(TrainerConfig) if leaf.startswith(sections)]
    assert [leaf for leaf in named if leaf.startswith("peft.") and leaf not in told] == [], "a section's own rule is about its presence"


def test_what_changes_at_once_is_told_without_contradiction(runs: Runs) -> None:
    """Of samples one sentence, whatever decided them; of the batch alone that none is left out."""
    manifest = runs.save(runs.config(evaluation=None))
    batch, length = {"globalBatchSize": 4}, {"sequenceLength": 8}
    (alone,) = runs.go_on(manifest, runs.config(evaluation=None, training=batch)).told
    assert "no sequence is skipped or repeated" in alone
    (both,) = runs.go_on(manifest, runs.config(evaluation=None, training=batch | length)).told
    assert (
        "spec.training.sequenceLength is 8 and was 16 and spec.training.globalBatchSize is 4 and was 8: the rows differ from before" in both
    )
    assert "spec.dataset" not in both and "no sequence is skipped" not in both


def test_evaluation_that_is_added_says_what_it_does_to_the_data(runs: Runs) -> None:
    manifest = runs.save(runs.config(evaluation=None))
    told = runs.go_on(manifest, runs.config(evaluation={"split": 0.2})).told
    assert told[0].startswith("spec.evaluation.split is 0.2 and was 0.0: the rows differ from before and start from the first one")
    assert "some of the documents that are now held out were trained on before" in told[1] and len(told) == 2
    assert runs.go_on(manifest, runs.config(evaluation={"dataset": runs.text})).told == (), "data of its own takes nothing away"
    back = runs.go_on(runs.save(runs.config()), runs.config(evaluation=None)).told
    assert len(back) == 1, "nothing is held back any more"


def test_a_dataset_that_is_left_out_is_not_called_lost(runs: Runs) -> None:
    more = [*runs.text, {"source": runs.job.text_file("more.jsonl", 50, 500), "weight": 3}]
    kept = runs.kept_tokenizer()
    (told,) = runs.go_on(runs.save(runs.config(dataset=more, **kept)), runs.config(**kept)).told
    assert "1 of 1 datasets continue where they stopped, 0 start" in told and "1 earlier one is no longer used" in told


def test_a_base_that_was_replaced_in_place_is_named_once(runs: Runs, tmp_path: Path) -> None:
    tokenizer = {"tokenizer": {"train": {"algorithm": "bpe", "vocabSize": 300}}}
    for more in ({}, {"peft": LORA}):
        one = pretrained(tmp_path / "one", 1)
        manifest = runs.save(runs.config(model=one, **tokenizer, **more))
        pretrained(tmp_path / "one", 2)
        found = runs.go_on(manifest, runs.config(model=one, **tokenizer, **more))
        said = found.refused or found.told[0]
        assert (found.refused is not None) == bool(more)
        assert said.count(one["source"]) == 1 and "holds other weights than" in said


def test_training_that_is_declared_done_at_the_checkpoint_says_so(runs: Runs) -> None:
    found = runs.go_on(runs.save(runs.config()), runs.config(training={"maxSteps": 3}))
    assert found.refused is None and "spec.training.maxSteps ends the training at step 3" in found.told[0]
    assert "schedule of 10 steps: no further step is trained." in found.told[0]


def test_a_curriculum_resumes_at_its_steps_with_another_batch_size(runs: Runs) -> None:
    more = [*runs.text, {"source": runs.job.text_file("more.jsonl", 50, 500)}]
    given = {
        "dataset": more,
        "curriculum": [{"fromStep": 3, "weights": [1, 3]}, {"fromStep": 6, "weights": [0, 1]}],
        **runs.kept_tokenizer(),
    }
    manifest = runs.save(runs.config(**given))
    assert runs.go_on(manifest, runs.config(**given)).told == ()
    found = runs.go_on(manifest, runs.config(**given, training={"globalBatchSize": 4}))
    assert [stage.at for stage in found.course.stages] == [16, 24 + 2 * 4]
    assert "no sequence is skipped or repeated" in found.told[0]
    later = runs.go_on(manifest, runs.config(**given | {"curriculum": [*given["curriculum"][:1], {"fromStep": 8, "weights": [0, 1]}]}))
    assert [stage.at for stage in later.course.stages] == [16, 56]
    assert "spec.curriculum" in later.told[0] and "steps to come draw by it" in later.told[0] and len(later.told) == 1


def test_datasets_continue_where_they_stopped_in_a_concatenation(runs: Runs) -> None:
    given = {"dataset": [*runs.text, {"source": runs.job.text_file("more.jsonl", 50, 500)}], **runs.kept_tokenizer()}
    found = runs.go_on(runs.save(runs.config(**given)), runs.config(**given, mixing="concat"))
    assert (found.course.concat, [part.before for part in found.course.parts]) == (True, [12, 12])
    assert "spec.mixing is concat and was not set: 2 of 2 datasets continue where they stopped" in found.told[0]
