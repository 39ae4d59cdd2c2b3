"""What is said, and refused, where the data is little for the training that is asked for."""

from __future__ import annotations

import pytest
from small_job import Job, config_of, sentence

from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.rows import read_stats
from llmtrain_trainer.run_dir.notices import told


def test_a_warm_up_beyond_the_last_epoch_is_refused_and_its_way_out_works(job: Job) -> None:
    source = job.text_file()
    with pytest.raises(
        BadData, match=r"spec\.training\.schedule\.warmupSteps is 5000: 1 epochs of this data are \d+ steps.* at most (\d+)"
    ):
        job.prepare(config_of([{"source": source}], training={"epochs": 1, "maxSteps": None, "schedule": {"warmupSteps": 5000}}))
    steps = job.prepare(config_of([{"source": source}], training={"epochs": 1, "maxSteps": None})).target_steps
    job.prepare(config_of([{"source": source}], training={"epochs": 1, "maxSteps": None, "schedule": {"warmupSteps": steps}}))


def test_passes_over_the_same_text_are_counted_not_steps(job: Job) -> None:
    source = job.text_file()
    steps = job.prepare(config_of([{"source": source}], training={"epochs": 4, "maxSteps": None})).target_steps
    assert not any("passes" in line for line in told(job.run))
    prepared = job.prepare(config_of([{"source": source}], training={"maxSteps": 10 * steps}))
    assert f"Training makes 40 passes over the {prepared.tokens:,} tokens of the data" in " ".join(told(job.run))


def test_epochs_are_held_against_the_parameters(job: Job) -> None:
    config = config_of([{"source": job.text_file()}], training={"epochs": 1, "maxSteps": None}, estimate={"parameters": 10_000_000})
    job.prepare(config)
    assert any("per parameter are compute-optimal" in line for line in told(job.run))


def test_documents_of_fine_tuning_are_counted_once(job: Job) -> None:
    rows = [{"prompt": f"Q{i}? ", "completion": f"A{i}."} for i in range(40)]
    dataset = {"source": job.rows_file("p.jsonl", rows), "format": "promptCompletion"}
    job.prepare(config_of([dataset], task="sft", training={"maxSteps": 10_000, "packing": False}))
    assert any(line.startswith("The data has 40 documents; fine-tuning on fewer than about 1,000") for line in told(job.run))


@pytest.mark.parametrize("files", [1, 3])
def test_the_end_of_each_of_a_few_texts_is_held_back(job: Job, files: int) -> None:
    texts = ["".join(sentence(100 * file + i) for i in range(100)) for file in range(files)]
    for file, text in enumerate(texts):
        (job.root / "books").mkdir(exist_ok=True)
        (job.root / "books" / f"{file}.txt").write_text(text)
    prepared = job.prepare(config_of([{"source": f"file://{job.root}/books"}], evaluation={"split": 0.2}))
    train, held = (read_stats(job.run.prepared / name / "0") for name in ("train", "validation"))
    assert held.tokens == pytest.approx(0.2 * (train.tokens + held.tokens), rel=0.1)
    assert (train.documents, held.documents) == (files, files)
    assert prepared.validation_samples > 0
    assert any("too few to hold out whole texts, so the last 0.2 of each" in line for line in told(job.run))
