"""-f and --set: what a user types becomes the job, and what cannot is said in one sentence."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from llmtrain_operator.cli.manifest import load_manifest, with_absolute_paths, with_setting
from llmtrain_operator.cli.refusal import UsageError
from llmtrain_operator.manifest.parse import ManifestError

MANIFEST = """\
apiVersion: llmtrain.io/v1alpha1
kind: LLMTrainJob
metadata: {name: small}
spec:
  model:
    config: {model_type: llama, hidden_size: 64, intermediate_size: 128, num_hidden_layers: 2, num_attention_heads: 4, vocab_size: 512}
  tokenizer: {train: {vocabSize: 512}}
  dataset: [{source: "file://./data dir/*.jsonl"}]
  training: {globalBatchSize: 8, sequenceLength: 64, maxSteps: 10}
  checkpoint: {destination: file://../out/ckpt}
"""


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    path = tmp_path / "jobs" / "job.yaml"
    path.parent.mkdir()
    path.write_text(MANIFEST)
    return str(path)


def test_relative_files_are_taken_from_the_manifests_directory(manifest: str, tmp_path: Path) -> None:
    job = load_manifest(manifest)
    assert job.spec.dataset[0].source == f"file://{tmp_path}/jobs/data dir/*.jsonl"
    assert job.spec.checkpoint is not None
    assert job.spec.checkpoint.destination == f"file://{tmp_path}/out/ckpt"


def test_relative_files_in_set_are_taken_from_where_the_user_is(manifest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    job = load_manifest(manifest, ["spec.checkpoint.destination=file://./here"])
    assert job.spec.checkpoint is not None
    assert job.spec.checkpoint.destination == f"file://{tmp_path}/here"


@pytest.mark.parametrize("text", ["file:///absolute/path", "file://host/path", "s3://bucket/./key", "./plain"])
def test_other_text_is_left_as_it_is(text: str) -> None:
    assert with_absolute_paths({"a": [text]}, Path("/base")) == {"a": [text]}


def test_set_changes_makes_and_removes_fields(manifest: str) -> None:
    job = load_manifest(
        manifest,
        ["spec.training.maxSteps=20", "spec.training.optimizer.learningRate=1e-3", "spec.dataset[0].weight=0.5", "spec.checkpoint=null"],
    )
    assert job.spec.training.max_steps == 20
    assert job.spec.training.optimizer.learning_rate == 1e-3
    assert job.spec.dataset[0].weight == 0.5
    assert job.spec.checkpoint is None


def test_set_does_not_change_the_tree_it_was_given() -> None:
    tree = {"spec": {"dataset": [{"source": "a"}]}}
    assert with_setting(tree, "spec.dataset.0.source=b") == {"spec": {"dataset": [{"source": "b"}]}}
    assert tree == {"spec": {"dataset": [{"source": "a"}]}}


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("spec.training.maxSteps", "it must be PATH=VALUE"),
        ("=3", "it must be PATH=VALUE"),
        ("spec.dataset[4].weight=1", "4 must be an index below 1"),
        ("spec.dataset.source=file:///x", "source must be an index below 1"),
        ("metadata.name.first=x", "which has no fields"),
    ],
)
def test_a_bad_set_says_what_to_do(manifest: str, setting: str, says: str) -> None:
    with pytest.raises(UsageError, match=r"--set") as refused:
        load_manifest(manifest, [setting])
    assert says in str(refused.value)


def test_a_set_to_an_unknown_field_is_refused_as_in_the_manifest(manifest: str) -> None:
    with pytest.raises(ManifestError, match=r"spec\.training\.maxStep\b"):
        load_manifest(manifest, ["spec.training.maxStep=3"])


def test_a_key_given_twice_is_found_with_set_too(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(MANIFEST + "  suspend: true\n  suspend: false\n")
    with pytest.raises(ManifestError, match="suspend"):
        load_manifest(str(path), ["spec.training.maxSteps=3"])


def test_a_dash_reads_standard_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO(MANIFEST))
    assert load_manifest("-").spec.dataset[0].source == f"file://{tmp_path}/data dir/*.jsonl"
