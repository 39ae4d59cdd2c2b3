"""Task classify: labels of rows, of the model and of the manifest; where they stand; what is exported of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_job import Job, config_of, sentence
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedTokenizerFast

from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.columns import NO_TARGET
from llmtrain_trainer.data.formats.cells import in_order, place_of
from llmtrain_trainer.run_dir.notices import told
from llmtrain_trainer.tasks.classify import cut, last_token

SHAPE = {"model_type": "llama", "vocab_size": 512, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
SHAPE |= {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 32}
NAMES = ("bad", "good", "mixed")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def rows_of(labels: tuple[Any, ...] = NAMES, count: int = 30) -> list[dict[str, Any]]:
    return [{"text": sentence(number), "label": labels[number % len(labels)]} for number in range(count)]


def classifier(job: Job, rows: list[Any], **changes: Any) -> TrainerConfig:
    dataset = {"source": job.rows_file("rows.jsonl", rows), "format": "textLabel", **changes.pop("dataset", {})}
    return config_of([dataset], task="classify", **{"model": {"config": SHAPE}} | changes)


def refusal(job: Job, config: TrainerConfig) -> BadData:
    with pytest.raises(BadData) as caught:
        job.prepare(config)
    return caught.value


def described(job: Job) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((job.run.prepared / "model" / "config.json").read_text())
    return found


@pytest.mark.parametrize(
    ("said", "labels", "place"),
    [
        ("good", NAMES, 1),
        ("1", NAMES, 1),
        ("3", NAMES, None),
        ("-1", NAMES, None),
        ("nice", NAMES, None),
        ("true", ("no", "yes"), 1),
        ("1", ("1", "2", "3"), 0),
        ("0", ("1", "2", "3"), None),
        ("2", ("2", "10"), 0),
        ("", NAMES, None),
    ],
)
def test_a_label_is_a_name_or_counts_the_names_unless_these_are_numbers(said: str, labels: tuple[str, ...], place: int | None) -> None:
    assert place_of(said, labels) == place


def test_labels_of_data_are_sorted_and_numbers_by_size() -> None:
    assert in_order({"10", "9", "-1"}) == ("-1", "9", "10")
    assert in_order({"b", "a", "10"}) == ("10", "a", "b")


def test_the_label_stands_at_the_last_token_that_is_not_padding() -> None:
    assert last_token(np.array([5, 6, 7], np.int32), 0) == 2
    assert last_token(np.array([5, 6, 0, 0], np.int32), 0) == 1
    assert last_token(np.array([0, 0], np.int32), 0) == 0


def test_a_long_text_loses_its_end_and_keeps_what_the_tokenizer_puts_behind_it() -> None:
    ids = np.arange(10, dtype=np.int32)
    assert cut(ids, 6, 1).tolist() == [0, 1, 2, 3, 4, 9]
    assert cut(ids, 6, 0).tolist() == [0, 1, 2, 3, 4, 5]
    assert cut(ids, 10, 1) is ids


def test_rows_hold_the_text_as_the_tokenizer_makes_it_and_one_label_each(job: Job) -> None:
    rows = rows_of()
    prepared = job.prepare(classifier(job, rows, training={"sequenceLength": 64}))
    assert prepared.labels == NAMES
    assert (prepared.train_samples, prepared.targets) == (30, 30)
    ids, labels = (np.load(job.run.prepared / "train" / "0" / f"{name}.npy") for name in ("input_ids", "labels"))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(job.run.prepared / "tokenizer")
    for row, found, at in zip(rows, ids, labels, strict=True):
        (place,) = np.flatnonzero(at != NO_TARGET)
        assert found[: place + 1].tolist() == tokenizer(row["text"])["input_ids"]
        assert NAMES[at[place]] == row["label"]
    counts = np.load(job.run.prepared / "train" / "0" / "counts.npy")
    assert counts.tolist() == [10, 10, 10]
    assert prepared.unigram_entropy == pytest.approx(np.log(3))


def test_config_json_describes_the_classifier(job: Job) -> None:
    job.prepare(classifier(job, rows_of()))
    found = described(job)
    assert found["architectures"] == ["LlamaForSequenceClassification"]
    assert found["id2label"] == {"0": "bad", "1": "good", "2": "mixed"}
    assert found["label2id"] == {"bad": 0, "good": 1, "mixed": 2}
    assert AutoConfig.from_pretrained(job.run.prepared / "model").num_labels == 3
    generation = json.loads((job.run.prepared / "model" / "generation_config.json").read_text())
    assert generation["pad_token_id"] is not None


def test_labels_of_the_manifest_come_first_in_their_order_and_one_without_rows_is_told(job: Job) -> None:
    prepared = job.prepare(classifier(job, rows_of(), labels=["mixed", "good", "bad", "odd"]))
    assert prepared.labels == ("mixed", "good", "bad", "odd")
    assert "labels: no row of the training data has odd, so that is not learned." in told(job.run)


def test_whole_numbers_in_rows_count_the_labels(job: Job) -> None:
    by_name = job.prepare(classifier(job, rows_of())).datasets[0].train.digest
    assert job.prepare(classifier(job, rows_of((0, 1, 2)), labels=list(NAMES))).datasets[0].train.digest == by_name
    assert job.prepare(classifier(job, rows_of((0, 1.0, 2)))).labels == ("0", "1", "2")


def test_a_label_that_is_not_learned_is_refused_with_its_row(job: Job) -> None:
    found = refusal(job, classifier(job, [*rows_of(), {"text": "x", "label": "goood"}], labels=list(NAMES)))
    assert found.field == "dataset[0].source"
    assert found.value.endswith("rows.jsonl row 31")
    assert found.rule == "its label is goood, which is none of the 3 that are learned (bad, good, mixed), is good meant?"
    prepared = job.prepare(classifier(job, [*rows_of(), {"text": "x", "label": "goood"}], labels=list(NAMES), dataset={"badRows": "skip"}))
    assert prepared.train_samples == 30


@pytest.mark.parametrize("label", [["good", "bad"], {"good": 1}, 0.5])
def test_what_is_no_single_label_is_refused(job: Job, label: Any) -> None:
    assert "a label is a name or a whole number" in refusal(job, classifier(job, [*rows_of(), {"text": "x", "label": label}])).rule


def test_rows_without_a_column_for_the_label_name_the_one_that_may_hold_it(job: Job) -> None:
    rows = [{"text": row["text"], "label_name": row["label"]} for row in rows_of()]
    found = refusal(job, classifier(job, rows))
    assert found.way_out == "Set dataset[0].columns.label to label_name, if it holds it"
    assert job.prepare(classifier(job, rows, dataset={"columns": {"label": "label_name"}})).labels == NAMES


def test_data_of_one_label_is_refused(job: Job) -> None:
    assert "every row of the training data has the label good" in refusal(job, classifier(job, rows_of(("good",)))).rule


def test_a_column_of_texts_is_no_label(job: Job) -> None:
    rows = [{"text": f"text {number}", "label": sentence(number)} for number in range(1100)]
    assert refusal(job, classifier(job, rows)).field == "dataset[0].columns.label"


def test_cut_texts_are_told(job: Job) -> None:
    job.prepare(classifier(job, rows_of(), training={"sequenceLength": 8}))
    assert any("30 of 30 documents are longer than 8 tokens and were cut at their end" in said for said in told(job.run))


# A pretrained model


def pretrained(job: Job, kind: Any, **shape: Any) -> dict[str, Any]:
    directory = job.root / "pretrained"
    kind.from_config(AutoConfig.for_model(**SHAPE, **shape)).save_pretrained(directory)
    return {"model": {"source": f"file://{directory}"}}


def test_a_language_model_gets_a_new_head_and_the_reader_hears_of_it(job: Job) -> None:
    job.prepare(classifier(job, rows_of(), **pretrained(job, AutoModelForCausalLM)))
    assert (job.run.prepared / "model" / "new_head.txt").read_text() == "score\n"
    assert "model.source: it has no head for labels; a head for bad, good, mixed is drawn from training.seed." in told(job.run)


def test_a_classifier_keeps_its_head_and_its_labels(job: Job) -> None:
    names = {"id2label": {0: "mixed", 1: "good", 2: "bad"}, "label2id": {"mixed": 0, "good": 1, "bad": 2}}
    given = pretrained(job, AutoModelForSequenceClassification, **names)
    assert job.prepare(classifier(job, rows_of(), **given)).labels == ("mixed", "good", "bad")
    assert not (job.run.prepared / "model" / "new_head.txt").exists()
    assert refusal(job, classifier(job, rows_of(), labels=list(NAMES), **given)).field == "labels"
    job.prepare(classifier(job, rows_of(("a", "b")), labels=["a", "b"], **given))
    assert (job.run.prepared / "model" / "new_head.txt").exists()


def test_outputs_without_names_take_those_of_the_manifest(job: Job) -> None:
    given = pretrained(job, AutoModelForSequenceClassification, num_labels=3)
    assert job.prepare(classifier(job, rows_of(), labels=list(NAMES), **given)).labels == NAMES
    assert not (job.run.prepared / "model" / "new_head.txt").exists()
