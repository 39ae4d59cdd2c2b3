"""Streaming datasets: chunks ahead of the ranks, the same order whoever writes them and whenever."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
import torch
from small_job import Job, config_of

from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.samples import open_samples
from llmtrain_trainer.prepare import chunks as writing
from llmtrain_trainer.run_dir.notices import told

TOKENIZER = {"train": {"vocabSize": 300, "maxSamples": 50}}


@pytest.fixture
def config(job: Job, monkeypatch: pytest.MonkeyPatch) -> TrainerConfig:
    """Two datasets, one streaming in ten chunks."""
    monkeypatch.setattr(writing, "CHUNK_DOCUMENTS", 10)
    stream = {"source": job.text_file("s.jsonl", 100), "streaming": True}
    return config_of([stream, {"source": job.text_file("a.jsonl", 30, 500)}], training={"maxSteps": 200}, tokenizer=TOKENIZER)


def write_all(job: Job, config: TrainerConfig) -> None:
    writing.stream_chunks(config, job.run, job.said.append, threading.Event())


def chunks(job: Job) -> list[str]:
    return sorted(path.name for path in (job.run.prepared / "train" / "0").glob("chunk-?????"))


def test_preparation_writes_the_first_chunk_only(job: Job, config: TrainerConfig) -> None:
    prepared = job.prepare(config)
    assert chunks(job) == ["chunk-00000"]
    assert prepared.datasets[0].train.documents == 10
    assert prepared.unigram_entropy > 1


def test_readers_wait_for_chunks_and_see_what_they_would_have_seen_later(job: Job, config: TrainerConfig) -> None:
    job.prepare(config)
    writer = threading.Timer(0.2, write_all, [job, config])
    writer.start()
    early = [open_samples(job.run.prepared, config, 0).step_batch(8 * (step - 1))["input_ids"] for step in range(1, 150)]
    writer.join()
    assert len(chunks(job)) == 10
    late = open_samples(job.run.prepared, config, 0)
    assert all(torch.equal(late.step_batch(8 * (step - 1))["input_ids"], early[step - 1]) for step in reversed(range(1, 150)))


def test_a_stream_starts_again_in_another_order_and_sees_every_row_each_time(job: Job, config: TrainerConfig) -> None:
    config = config.model_copy(update={"dataset": config.dataset[:1], "mesh": config.mesh.model_copy(update={"dp": 1})})
    config = config.model_copy(update={"batch": config.batch.model_copy(update={"accumulation": 4})})
    job.prepare(config)
    write_all(job, config)
    rows = sum(json.loads((job.run.prepared / "train" / "0" / name / "set.json").read_text())["rows"] for name in chunks(job))
    samples = open_samples(job.run.prepared, config, 0)
    consumed = torch.cat([samples.step_batch(8 * (step - 1))["input_ids"] for step in range(1, 2 * rows // 8 + 1)])
    first, second = consumed[:rows], consumed[rows : 2 * rows - 8]
    assert len(torch.unique(first, dim=0)) == rows
    assert not torch.equal(first[: len(second)], second)
    assert {tuple(row) for row in second.tolist()} <= {tuple(row) for row in first.tolist()}


def test_a_stopped_writer_goes_on_where_it_was(job: Job, config: TrainerConfig) -> None:
    job.prepare(config)
    stop = threading.Event()

    def stop_at_four(line: str) -> None:
        if "chunk 4" in line:
            stop.set()

    writing.stream_chunks(config, job.run, stop_at_four, stop)
    assert len(chunks(job)) < 10
    kept = {name: (job.run.prepared / "train" / "0" / name).stat().st_ino for name in chunks(job)}
    write_all(job, config)
    assert len(chunks(job)) == 10
    assert all((job.run.prepared / "train" / "0" / name).stat().st_ino == inode for name, inode in kept.items())


def test_readers_are_told_of_bad_data_further_on(job: Job, config: TrainerConfig) -> None:
    source = job.root / "files" / "s.jsonl"
    source.write_text(source.read_text() + "no json\n")
    job.prepare(config)
    with pytest.raises(BadData, match="row 101: it is not JSON"):
        write_all(job, config)
    with pytest.raises(BadData, match=r"^spec\.dataset\[0\]\.source is .* row 101: it is not JSON"):
        open_samples(job.run.prepared, config, 0).step_batch(8 * 199)


def test_what_reading_a_stream_comes_across_is_told(job: Job, config: TrainerConfig) -> None:
    source = job.root / "files" / "s.jsonl"
    rows = source.read_text()
    source.write_text(rows.replace("\n", '\n{"text": null}\n', 1) + '{"text": "\\ud83d"}\n')
    job.prepare(config)
    assert any("1 of " in line and "rows are null or empty and were passed over" in line for line in told(job.run))
    assert not any("surrogate" in line for line in told(job.run))
    write_all(job, config)
    assert any("1 row holds halves of surrogate pairs" in line for line in told(job.run))


CHANGES: list[dict[str, Any]] = [
    {"split": "train[:90]"},
    {"where": "text | length < 9000"},
    {"template": {"text": "{{ text if text | length < 9000 }}"}},
    {"clean": {"maxCharacters": 9000}},
]


@pytest.mark.parametrize("change", CHANGES, ids=[next(iter(change)) for change in CHANGES])
def test_what_may_change_later_chunks_changes_what_a_resume_compares(job: Job, config: TrainerConfig, change: dict[str, Any]) -> None:
    def digest(**given: Any) -> str:
        dataset = {"source": config.dataset[0].source, "streaming": True, **given}
        return job.prepare(config_of([dataset], training={"maxSteps": 200}, tokenizer=TOKENIZER)).digest

    assert digest() == digest(split="train", clean={}, truncate={"prompt": "left"}, where=None)
    assert digest() != digest(**change)


def test_sft_streams_too(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "CHUNK_DOCUMENTS", 10)
    rows = [{"prompt": f"Question {i}? ", "completion": f"Answer {i}."} for i in range(100)]
    dataset = {"source": job.rows_file("p.jsonl", rows), "format": "promptCompletion", "streaming": True}
    config = config_of([dataset], task="sft", training={"sequenceLength": 64})
    job.prepare(config)
    write_all(job, config)
    batch = open_samples(job.run.prepared, config, 0).step_batch(0)
    assert batch.packed
    assert batch.target_tokens > 0


def test_what_a_later_chunk_brings_is_told_once(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "CHUNK_DOCUMENTS", 10)
    rows = [{"prompt": "one two", "completion": " three" if i < 25 else " three" * 200} for i in range(60)]
    dataset = {"source": job.rows_file("s.jsonl", rows), "streaming": True, "format": "promptCompletion"}
    config = config_of([dataset], task="sft", training={"maxSteps": 200, "sequenceLength": 64}, tokenizer=TOKENIZER)
    before = job.prepare(config).warnings
    write_all(job, config)
    (sentence,) = [line for line in told(job.run) if line not in before]
    assert sentence.startswith("dataset[0]: 5 of 10 documents are longer than 64 tokens and were cut at their end")
    assert sentence.endswith("(in chunk 3, the first one where it is so)")
