"""A tokenizer that a job trained is kept with its checkpoints, and is the one that training goes on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_job import Job, config_of

from llmtrain_trainer.checkpoint.manifest import COMMIT, MANIFEST, CheckpointFile, Manifest, Meta, commit_of, encode
from llmtrain_trainer.checkpoint.store.destination import open_store
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.model.tokenizer_facts import TokenizerFacts
from llmtrain_trainer.run_dir.notices import told

pytestmark = pytest.mark.long

UNIGRAM = {"train": {"algorithm": "unigram", "vocabSize": 120}}


def config(job: Job, source: str, tokenizer: dict[str, Any] = UNIGRAM, **checkpoint: Any) -> Any:
    return config_of([{"source": source}], tokenizer=tokenizer, checkpoint={"destination": f"file://{job.root}/store", **checkpoint})


def elsewhere(job: Job, name: str) -> Job:
    """Another node: a run directory and a cache of its own, and a hash seed of its own in the library."""
    other = Job(job.root)
    other.run, other.cache = type(job.run)(job.root / name), job.root / f"cache-{name}"
    return other


def save(job: Job, digest: str, name: str = "step-00000002-a1-r0") -> None:
    """A committed checkpoint that was trained with this tokenizer."""
    store = open_store(f"file://{job.root}/store")
    file = CheckpointFile(path=".metadata", bytes=1, sha256="0" * 64, node=0)
    manifest = Manifest(name=name, save_id="x", created=0.0, meta=Meta(step=2, tokenizer_hash=digest), files=(file,))
    store.put_bytes(f"{name}/.metadata", b"x")
    store.put_bytes(f"{name}/{MANIFEST}", encode(manifest))
    store.put_bytes(f"{name}/{COMMIT}", encode(commit_of(manifest, encode(manifest), 0.0)))


def vocabulary(job: Job) -> str:
    return (job.run.prepared / "tokenizer" / "tokenizer.json").read_text()


def test_another_node_with_an_empty_cache_takes_the_tokenizer_that_was_trained_first(job: Job) -> None:
    source = job.text_file(count=200)
    first = job.prepare(config(job, source))
    other = elsewhere(job, "other")
    assert other.prepare(config(job, source)).digest == first.digest
    assert vocabulary(other) == vocabulary(job)
    assert not any("training a" in line for line in other.said)


def test_nodes_that_trained_at_the_same_time_agree_on_the_first(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    source = job.text_file(count=200)
    job.prepare(config(job, source))
    other = elsewhere(job, "other")
    looks = iter([None])
    of_data = "llmtrain_trainer.prepare.tokenizer_store.TokenizerStore.of_data"
    real = pytest.importorskip("llmtrain_trainer.prepare.tokenizer_store").TokenizerStore.of_data
    monkeypatch.setattr(of_data, lambda self, key: next(looks, real(self, key)))
    other.prepare(config(job, source))
    assert any("training a" in line for line in other.said)
    assert vocabulary(other) == vocabulary(job)


def test_training_goes_on_with_the_tokenizer_of_its_checkpoint_though_the_data_changed(job: Job) -> None:
    first = job.prepare(config(job, job.text_file(count=200)))
    save(job, first.tokenizer_digest)
    other = elsewhere(job, "other")
    again = other.prepare(config(job, job.text_file(count=300, start=7)))
    assert again.tokenizer_digest == first.tokenizer_digest
    assert again.digest != first.digest
    assert any("trained on data that has changed since" in line for line in told(other.run))


def test_other_settings_or_a_new_beginning_train_another(job: Job) -> None:
    source = job.text_file(count=200)
    first = job.prepare(config(job, source))
    save(job, first.tokenizer_digest)
    other = elsewhere(job, "other")
    assert other.prepare(config(job, source, {"train": {"algorithm": "bpe", "vocabSize": 300}})).tokenizer_digest != first.tokenizer_digest
    changed = config(job, job.text_file(count=300, start=7), resume="none")
    assert elsewhere(job, "anew").prepare(changed).tokenizer_digest != first.tokenizer_digest


@pytest.mark.parametrize("damage", ["changed", "gone", "resealed"])
def test_a_kept_tokenizer_that_is_not_what_its_name_says_is_refused(job: Job, damage: str) -> None:
    source = job.text_file(count=200)
    digest = job.prepare(config(job, source)).tokenizer_digest
    path = job.root / "store" / "tokenizers" / digest / "tokenizer.json"
    text = path.read_text()
    if damage == "gone":
        path.unlink()
    else:
        path.write_text(text.replace("<|end|>", "<|fin|>"))
    if damage == "resealed":
        _reseal(path)
    with pytest.raises(BadData, match=rf"spec\.checkpoint\.destination is .*tokenizers/{digest}.* Restore the original files"):
        elsewhere(job, "other").prepare(config(job, source))


def _reseal(path: Path) -> None:
    import hashlib
    import json

    made = json.loads(path.with_name("made.json").read_text())
    made["files"]["tokenizer.json"] = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name("made.json").write_text(json.dumps(made))


def test_what_is_kept_is_read_back_as_the_same_tokenizer(job: Job) -> None:
    for algorithm, size in (("bpe", 300), ("wordpiece", 200), ("unigram", 120)):
        settings = {"train": {"algorithm": algorithm, "vocabSize": size}}
        place = elsewhere(job, algorithm)
        prepared = place.prepare(config(job, job.text_file(count=200), settings))
        assert TokenizerFacts.load(place.run.prepared / "tokenizer").digest == prepared.tokenizer_digest
