"""Preparation: what it makes, what it keeps, what it refuses."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from s3_server import S3Server
from small_job import Job, config_of, sentence
from small_model import write_model

from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.formats.encoding import load_tokenizer
from llmtrain_trainer.data.prepared import Prepared
from llmtrain_trainer.data.rows import open_rows, read_stats
from llmtrain_trainer.data.samples import open_samples


def test_the_stream_is_every_document_joined_by_the_end_token_and_labels_are_one_further(job: Job) -> None:
    job.prepare(config_of([{"source": job.text_file(count=30)}]))
    tokenizer = load_tokenizer(job.run.prepared / "tokenizer")
    expected = [token for i in range(30) for token in [*tokenizer(sentence(i))["input_ids"], tokenizer.eos_token_id]]
    rows = open_rows(job.run.prepared / "train" / "0")
    inputs, labels, positions = rows.take(np.arange(len(rows))).values()
    count = len(rows) * 16
    assert inputs.ravel().tolist() == expected[:count]
    assert labels.ravel().tolist() == expected[1 : count + 1]
    assert (positions == np.arange(16)).all()
    assert len(rows) == (len(expected) - 1) // 16


def test_entropy_is_that_of_the_mixed_targets(job: Job) -> None:
    one, other = job.text_file("a.jsonl"), job.text_file("b.jsonl", 40, 500)
    prepared = job.prepare(config_of([{"source": one, "weight": 3}, {"source": other}]))
    mixed = np.zeros(512)
    for index, share in ((0, 0.75), (1, 0.25)):
        tokens = np.load(job.run.prepared / "train" / str(index) / "tokens.npy")
        mixed += share * np.bincount(tokens, minlength=512) / len(tokens)
    expected = -(mixed[mixed > 0] * np.log(mixed[mixed > 0])).sum()
    assert prepared.unigram_entropy == pytest.approx(expected)


def test_a_second_preparation_reads_the_cache_and_makes_nothing(job: Job) -> None:
    config = config_of([{"source": job.text_file()}], evaluation={"split": 0.3})
    first = job.prepare(config)
    assert any("tokenising" in line for line in job.said)
    again = job.prepare(config)
    assert job.said == []
    assert again == first == Prepared.load(job.run.prepared)


@pytest.mark.parametrize(
    "change",
    [{"training": {"sequenceLength": 8}}, {"tokenizer": {"train": {"vocabSize": 301}}}, {"evaluation": {"split": 0.2}}],
    ids=["length", "tokenizer", "split"],
)
def test_what_shapes_the_rows_is_in_the_key(job: Job, change: dict[str, Any]) -> None:
    source = job.text_file()
    job.prepare(config_of([{"source": source}]))
    job.prepare(config_of([{"source": source}], **change))
    assert any("tokenising" in line for line in job.said)


def test_what_does_not_shape_the_rows_is_not_in_the_key(job: Job) -> None:
    source = job.text_file()
    job.prepare(config_of([{"source": source}]))
    job.prepare(config_of([{"source": source, "weight": 2}], training={"seed": 9, "maxSteps": 77}))
    assert job.said == []


def test_a_changed_file_is_tokenised_again(job: Job) -> None:
    config = config_of([{"source": job.text_file()}])
    before = job.prepare(config)
    job.text_file(count=61)
    assert job.prepare(config).digest != before.digest


def test_a_torn_cache_is_made_again(job: Job) -> None:
    config = config_of([{"source": job.text_file()}])
    whole = job.prepare(config)
    tokens = next((job.cache / "rows").glob("*/train/tokens.npy"))
    tokens.write_bytes(tokens.read_bytes()[:-4])
    assert job.prepare(config) == whole
    assert any("tokenising" in line for line in job.said)


def test_a_draft_left_by_a_crash_is_ignored(job: Job) -> None:
    config = config_of([{"source": job.text_file()}])
    whole = job.prepare(config)
    final = next(path for path in (job.cache / "rows").iterdir() if path.is_dir())
    final.rename(final.with_name(f"{final.name}.draft"))
    (final.with_name(f"{final.name}.draft") / "rubbish").write_text("x")
    assert job.prepare(config) == whole
    assert not (final / "rubbish").exists()


def test_two_at_once_share_one_tokenisation(tmp_path: Path) -> None:
    jobs = [Job(tmp_path / name) for name in ("a", "b")]
    source = jobs[0].text_file(count=200)
    for job in jobs:
        job.cache = tmp_path / "cache"
    threads = [threading.Thread(target=job.prepare, args=[config_of([{"source": source}])]) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum("tokenising" in line for job in jobs for line in job.said) == 1
    assert Prepared.load(jobs[0].run.prepared) == Prepared.load(jobs[1].run.prepared)


def test_validation_rows_are_the_same_however_the_training_changes(job: Job) -> None:
    source = job.text_file(count=200)
    job.prepare(config_of([{"source": source}], evaluation={"split": 0.2}))
    held = np.load(job.run.prepared / "validation" / "0" / "tokens.npy")
    train = read_stats(job.run.prepared / "train" / "0")
    job.prepare(config_of([{"source": source}], evaluation={"split": 0.2}, training={"seed": 5}))
    assert (np.load(job.run.prepared / "validation" / "0" / "tokens.npy") == held).all()
    assert train.documents + read_stats(job.run.prepared / "validation" / "0").documents == 200


def test_links_of_an_earlier_preparation_do_not_stay(job: Job) -> None:
    source = job.text_file()
    config = config_of([{"source": source}, {"source": source}], evaluation={"split": 0.3})
    job.prepare(config)
    config = config_of([{"source": source}])
    assert job.prepare(config).validation_samples == 0
    assert list(open_samples(job.run.prepared, config, 0).evaluation_batches()) == []


def test_evaluation_may_have_datasets_of_its_own(job: Job) -> None:
    evaluation = {"dataset": [{"source": job.text_file("v.jsonl", 20, 900)}], "split": 0.5}
    prepared = job.prepare(config_of([{"source": job.text_file()}], evaluation=evaluation))
    assert prepared.datasets[0].train.documents == 60
    assert prepared.validation_samples == prepared.validation_sets[0].rows > 0


def test_epochs_become_steps_that_see_every_row(job: Job) -> None:
    prepared = job.prepare(config_of([{"source": job.text_file()}], training={"maxSteps": None, "epochs": 2.5}))
    assert prepared.target_steps == -(-prepared.train_samples * 5 // 16)


def test_a_random_model_gets_the_special_tokens_of_the_tokenizer(job: Job) -> None:
    job.prepare(config_of([{"source": job.text_file()}]))
    written = json.loads((job.run.prepared / "model" / "config.json").read_text())
    assert written["model_type"] == "llama"
    assert written["eos_token_id"] == load_tokenizer(job.run.prepared / "tokenizer").eos_token_id


def pretrained(job: Job, vocab_size: int = 512) -> str:
    """A model directory with weights and the tokenizer of an earlier run; returns its URI."""
    job.prepare(config_of([{"source": job.text_file()}]))
    directory = job.root / "model"
    directory.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (directory / name).write_bytes((job.run.prepared / "tokenizer" / name).read_bytes())
    write_model({"vocab_size": vocab_size}, directory)
    return f"file://{directory}"


def test_a_pretrained_model_is_linked_with_its_tokenizer(job: Job) -> None:
    source = pretrained(job)
    config = config_of([{"source": job.text_file()}], model={"source": source}, tokenizer=None)
    before = Prepared.load(job.run.prepared)
    assert job.prepare(config).vocab_size == before.vocab_size
    assert (job.run.prepared / "model" / "model.safetensors").resolve() == job.root / "model" / "model.safetensors"
    random = config.model_copy(update={"model": config.model.model_copy(update={"init": "random"})})
    job.prepare(random)
    assert sorted(path.name for path in (job.run.prepared / "model").iterdir()) == ["config.json", "generation_config.json"]


@pytest.mark.processes
def test_data_and_model_come_from_a_store_of_objects(job: Job, s3: S3Server) -> None:
    bucket, client = s3.new_bucket(), s3.client()
    local = Path(pretrained(job).removeprefix("file://"))
    expected = job.prepare(config_of([{"source": job.text_file()}], model={"source": f"file://{local}"}, tokenizer=None))
    for path in [*local.iterdir(), *(job.root / "files").iterdir()]:
        client.put_object(Bucket=bucket, Key=f"{path.parent.name}/{path.name}", Body=path.read_bytes())
    config = config_of([{"source": f"s3://{bucket}/files/*.jsonl"}], model={"source": f"s3://{bucket}/model"}, tokenizer=None)
    prepared = job.prepare(config)
    assert (prepared.digest, prepared.tokens) == (expected.digest, expected.tokens)
    assert (job.run.prepared / "model" / "model.safetensors").read_bytes() == (local / "model.safetensors").read_bytes()
    for key in ("files/", "files/sub/", "files/sub_$folder$", "files/_SUCCESS", "files/README.md"):
        client.put_object(Bucket=bucket, Key=key, Body=b"")
    for source in ("files/*.jsonl", "files", "files/", "fil*", "files/**"):
        again = job.prepare(config_of([{"source": f"s3://{bucket}/{source}"}], model={"source": f"s3://{bucket}/model"}, tokenizer=None))
        assert again.digest == expected.digest
        assert not any("tokenising" in line for line in job.said) or source != "files/*.jsonl"
    client.put_object(Bucket=bucket, Key="odd [1]/a*.jsonl", Body=(job.root / "files" / "text.jsonl").read_bytes())
    for source in ("odd [1]/a*.jsonl", "odd [1]", "odd [1]/*.jsonl"):
        assert job.prepare(config_of([{"source": f"s3://{bucket}/{source}"}], model=config.model.model_dump(), tokenizer=None)).tokens
    with pytest.raises(BadData, match=rf"dataset\[0\].source is s3://{bucket}/none/: there is no file"):
        job.prepare(config_of([{"source": f"s3://{bucket}/none/"}]))


def test_too_little_data_is_refused_with_numbers(job: Job) -> None:
    with pytest.raises(BadData, match=r"training.globalBatchSize is 8: the data makes \d rows of 16 tokens, fewer than one"):
        job.prepare(config_of([{"source": job.text_file(count=2)}]))


def test_a_tokenizer_larger_than_the_model_is_refused(job: Job) -> None:
    model = {"config": {"model_type": "llama", "vocab_size": 256}}
    message = r"vocab_size is 256: the tokenizer's highest token id is 299 \(.*\), .* has 256 rows\. Set vocab_size to at least 300"
    with pytest.raises(BadData, match=message):
        job.prepare(config_of([{"source": job.text_file()}], model=model))


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (
        {"format": "messages"},
        {},
        "dataset[0].format is messages: task pretrain reads text, lines or tokens. Change the format or the task.",
    ),
    (
        {},
        {"tokenizer": None},
        "tokenizer is not set: a model made from model.config brings no tokenizer. Set tokenizer.source or",
    ),
    ({}, {"evaluation": {"split": 0.001}}, "evaluation.split is 0.001: the 0 documents held out make no row of 16 tokens. Raise it"),
    (
        {"streaming": True},
        {"training": {"maxSteps": None, "epochs": 1}},
        "training.maxSteps is not set: the end of a streaming",
    ),
    (
        {},
        {"evaluation": {"dataset": [{"source": "file:///nowhere", "streaming": True}]}},
        "evaluation.dataset is streaming: true: validation data is read many times. Leave streaming out.",
    ),
    ({"streaming": True}, {"evaluation": {"split": 0.1}}, "evaluation.split is 0.1: a streaming dataset is not complete before training"),
    ({}, {"training": {"sequenceLength": 4096}}, "it makes no row of 4096 tokens (found 60 documents with"),
    ({}, {"model": {"source": "file:///nowhere"}}, "model.source is file:///nowhere: there is no file"),
]


@pytest.mark.parametrize(("dataset", "changes", "message"), REFUSED, ids=[message[:40] for *_, message in REFUSED])
def test_settings_that_do_not_go_together_are_refused(job: Job, dataset: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadData) as raised:
        job.prepare(config_of([{"source": job.text_file(), **dataset}], **changes))
    assert message in str(raised.value)
    assert not (job.run.prepared / "prepared.json").exists()
