"""Parsing: what a good manifest becomes, and that nothing but ManifestError ever comes out of a bad one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.manifest.document import read_document
from llmtrain_operator.manifest.parse import ManifestError, manifest_schema, parse_manifest, parse_object
from llmtrain_operator.manifest.schema import defaulted

GOOD = """
apiVersion: llmtrain.io/v1alpha1
kind: LLMTrainJob
metadata: {name: llama3-8b-sft, labels: {team: a}, annotations: {note: x}, uid: 1234, generation: 3}
spec:
  task: sft
  model: {source: hf://acme/llama, revision: "12345678"}
  dataset:
  - {source: s3://data/chat.jsonl, format: messages, weight: 0.7}
  - {source: file:///data/*.txt, weight: 0.3, columns: {text: body}}
  peft: {method: lora, rank: 16, targetModules: [q_proj, v_proj]}
  parallelism: {engine: native, tensor: 4, pipeline: 2, zeroStage: 3}
  training: {globalBatchSize: 64, sequenceLength: 8192, maxSteps: 2000, optimizer: {learningRate: 1e-4, betas: [0.9, 0.99]}}
  evaluation: {split: 0.01}
  checkpoint: {destination: s3://bucket/llama, every: {steps: 200}, keepEverySteps: 1000, resume: 400}
  resources: {nodes: 4, gpusPerNode: 8, gpu: H100-80GB, cpu: 16, memory: 64Gi, rdma: {rdma/hca: 8}}
  scheduling: {queue: team-a, gang: kueue, topology: {required: rack}, tolerations: [{operator: Exists}], nodeSelector: {a: b}}
  resilience: {restarts: {max: 5, window: 12h}, hang: 30m, nonFiniteSteps: 5}
  output: {export: [adapter, merged]}
  ttlSecondsAfterFinished: 86400
status: {phase: Running, nonsense: true}
"""
MINIMAL: dict[str, Any] = {
    "apiVersion": "llmtrain.io/v1alpha1",
    "kind": "LLMTrainJob",
    "metadata": {"name": "small"},
    "spec": {
        "model": {"source": "hf://acme/tiny"},
        "dataset": [{"source": "file:///data/books.txt"}],
        "training": {"globalBatchSize": 8, "sequenceLength": 128, "maxSteps": 100},
    },
}


def problems(manifest: object) -> list[str]:
    text = manifest if isinstance(manifest, str) else yaml.safe_dump(manifest, sort_keys=False)
    with pytest.raises(ManifestError) as caught:
        parse_manifest(text)
    return [str(problem) for problem in caught.value.problems]


def minimal(**spec: Any) -> dict[str, Any]:
    manifest = copy.deepcopy(MINIMAL)
    manifest["spec"] |= spec
    return manifest


def test_a_full_manifest_becomes_frozen_types() -> None:
    job = parse_manifest(GOOD)
    assert job.metadata.name == "llama3-8b-sft"
    assert job.status is None
    assert job.spec.training.optimizer.learning_rate == 1e-4
    assert job.spec.training.optimizer.betas == (0.9, 0.99)
    assert job.spec.dataset[1].columns.text == "body"
    assert job.spec.checkpoint is not None and job.spec.checkpoint.resume == 400
    assert job.spec.resources.cpu == "16"


def test_text_and_object_mean_the_same() -> None:
    read, written = parse_object(yaml.safe_load(GOOD.replace("1e-4", "0.0001"))), parse_manifest(GOOD)
    assert read.spec == written.spec and (read.metadata.name, read.metadata.namespace) == (
        written.metadata.name,
        written.metadata.namespace,
    )


def test_what_parsing_fills_in_is_what_the_types_default_to() -> None:
    """The CRD's defaults and the types' defaults are one definition; a job from the API server equals the same job from a file."""
    direct = LLMTrainJob.model_validate(MINIMAL)
    assert parse_object(MINIMAL) == direct
    assert parse_object(defaulted(MINIMAL, manifest_schema())) == direct


def test_null_means_left_out() -> None:
    assert parse_object(minimal(peft=None, resources=None, suspend=None)) == parse_object(MINIMAL)
    assert problems(minimal(model=None))[0].startswith("spec.model is missing")


def test_null_inside_a_free_form_config_is_kept() -> None:
    job = parse_object(minimal(model={"config": {"model_type": "llama", "rope_scaling": None}}, tokenizer={"source": "hf://acme/tiny"}))
    assert job.spec.model.config == {"model_type": "llama", "rope_scaling": None}


def test_values_are_read_as_kubernetes_reads_them() -> None:
    text = "a: 1e-4\nb: 2026-01-31\nc: on\nd: 010\ne: 0x10\nf: 1_000\ng: 12:30\nh: ~\n7: seven\ni: 3.\nj: .5\nk: 2E3"
    values = [1e-4, "2026-01-31", True, "010", 16, 1000, "12:30", None, "seven", 3.0, 0.5, 2000.0]
    assert read_document(text).value == dict(zip([*"abcdefgh", "7", *"ijk"], values, strict=True))


def test_anchors_and_merge_keys_are_followed() -> None:
    read = read_document("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: [{x: 5}, *a]}").value
    assert read["b"] == {"x": 1, "y": 3}
    assert read["c"] == {"x": 5, "y": 2}


def test_all_problems_come_at_once_in_the_order_of_the_text() -> None:
    text = (
        GOOD.replace("task: sft", "task: sfft")
        .replace("nodes: 4", "nodes: 0")
        .replace("rank: 16", "rank: 0")
        .replace("window: 12h", "window: 1")
    )
    fields = [problem.split(" is ")[0] for problem in problems(text)]
    assert fields == ["spec.task", "spec.peft.rank", "spec.resources.nodes", "spec.resilience.restarts.window"]


def test_a_snake_case_name_is_refused_like_any_other_typo() -> None:
    assert problems(minimal(managed_by="a/b")) == ["spec.managed_by is a/b: there is no such field. Write spec.managedBy."]


def test_a_misspelt_field_is_said_once() -> None:
    manifest = minimal(training={"globalBatchsize": 8, "sequenceLength": 128, "max_step": 100})
    assert [problem.split(" is ")[0] for problem in problems(manifest)] == ["spec.training.globalBatchsize", "spec.training.max_step"]


def test_a_field_is_found_again_in_the_section_it_belongs_to() -> None:
    said = problems(minimal(sequenceLength=128, weight=1.0))
    assert said[0] == "spec.sequenceLength is 128: there is no such field here. Write spec.training.sequenceLength: 128."
    assert said[1] == "spec.weight is 1.0: there is no such field here. Write spec.dataset[0].weight or spec.evaluation.dataset[0].weight."


def test_a_status_is_not_read() -> None:
    assert parse_object({**MINIMAL, "status": "anything"}) == parse_object(MINIMAL)


def test_a_file_of_aliases_that_explodes_is_refused() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9))
    assert problems(bomb) == ["manifest is too large: it has at most 50000 values. Shorten it, or use fewer aliases."]


# ---- total: whatever comes in, a job or a ManifestError comes out --------------------------------------------------------

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["auto", "latest", "1", "off", "", "s3://b/p", "lora"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    ["source", "config", "maxSteps", "max_steps", "auto", "split", "x", "operator", "required", "rdma", "", "spec", "kind"]
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a manifest."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    manifest = yaml.safe_load(GOOD)
    for _ in range(draw(st.integers(1, 4))):
        container, key = draw(st.sampled_from(places(manifest)))
        change = draw(st.sampled_from(["replace", "remove", "add", "wrap"]))
        if change == "replace":
            container[key] = draw(VALUES)
        elif change == "remove":
            del container[key]
        elif change == "wrap":
            container[key] = [container[key]]
        elif isinstance(container, dict):
            container[draw(FIELDS)] = draw(VALUES)
        if not places(manifest):
            break
    return manifest


@settings(max_examples=150, deadline=None)
@given(mutated())
def test_a_mutated_manifest_parses_or_raises_manifest_error(manifest: Any) -> None:
    for attempt in (lambda: parse_manifest(yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True)), lambda: parse_object(manifest)):
        try:
            assert isinstance(attempt(), LLMTrainJob)
        except ManifestError as error:
            assert error.problems and all(str(problem) for problem in error.problems)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from("abk:-[]{}&*<>|?!#'\" \n\t019.~\x00\ud800,%@"), max_size=60) | st.text(max_size=60))
def test_any_text_parses_or_raises_manifest_error(text: str) -> None:
    with pytest.raises(ManifestError):
        parse_manifest(text)


@pytest.mark.parametrize(
    ("task", "rates"),
    [("pretrain", (3e-4, (0.9, 0.95), 0.1, 0.1)), ("sft", (5e-5, (0.9, 0.999), 0.0, 0.0))],
)
def test_fine_tuning_has_the_defaults_of_its_peers(task: str, rates: tuple[Any, ...]) -> None:
    training = parse_object(minimal(task=task)).spec.training
    optimizer = training.optimizer
    assert (optimizer.learning_rate, optimizer.betas, optimizer.weight_decay, training.schedule.min_ratio) == rates
    given = minimal(task=task, training={**MINIMAL["spec"]["training"], "optimizer": {"weightDecay": 0.3}, "schedule": {"minRatio": 0.4}})
    written = parse_object(given).spec.training
    assert (written.optimizer.weight_decay, written.schedule.min_ratio) == (0.3, 0.4)
    assert written.optimizer.betas == rates[1]
