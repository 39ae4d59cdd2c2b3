"""What the webhook answers: the plan's sentences for what a request brings, and never an error."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtrain_operator.kube.judging.admission import LONGEST_WARNING, ReviewAnswer, is_exempt, response, verdict_on
from llmtrain_operator.manifest.document import ManifestError, read_document
from llmtrain_operator.manifest.parse import parse_object
from llmtrain_operator.manifest.problem import NotKnownError, PlanError
from llmtrain_operator.plan.feasible import feasible
from llmtrain_operator.plan.model.shape import ModelShape
from llmtrain_operator.sources import read_shape
from llmtrain_trainer.config import Model

SHAPE = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 172,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "vocab_size": 512,
}
BAD = sorted((Path(__file__).parents[2] / "bad").glob("*.yaml"))


def job(**spec: Any) -> dict[str, Any]:
    training = {"globalBatchSize": 8, "microBatchSize": 1, "sequenceLength": 64, "maxSteps": 10, "precision": "fp32"}
    good = {"model": {"config": SHAPE}, "dataset": [{"source": "hf://acme/text"}], "training": training}
    good |= {"tokenizer": {"source": "hf://acme/tokenizer"}, "resources": {"nodes": 1, "procsPerNode": 4}}
    metadata = {"name": "job", "namespace": "team", "uid": "u1", "managedFields": [{"manager": "kubectl"}]}
    return {"apiVersion": "llmtrain.io/v1alpha1", "kind": "LLMTrainJob", "metadata": metadata, "spec": good | spec}


def create(manifest: Any) -> dict[str, Any]:
    return {"uid": "r1", "operation": "CREATE", "object": manifest, "oldObject": None}


def update(old: Any, new: Any) -> dict[str, Any]:
    return {"uid": "r1", "operation": "UPDATE", "object": new, "oldObject": old}


def unknown(model: Model) -> ModelShape | None:
    raise NotKnownError(f"spec.model.source is {model.source}: its config.json is being read.")


def inline(model: Model) -> ModelShape | None:
    """As where no source can be read."""
    return read_shape(model) if model.config is not None else unknown(model)


def never(_: Model) -> ModelShape | None:
    raise AssertionError("nothing was to be judged")


def test_a_manifest_that_can_be_planned_is_admitted_with_the_plans_advice() -> None:
    verdict = verdict_on(create(job()), read_shape)
    assert verdict.problems == () and "spec.checkpoint is not set: after a failure the job restarts from step 0." in verdict.warnings


def test_a_refusal_carries_every_sentence_of_the_plan() -> None:
    spec = {"parallelism": {"tensor": 3}, "training": job()["spec"]["training"] | {"globalBatchSize": 7}}
    answer = response({"request": create(job(**spec))}, verdict_on(create(job(**spec)), read_shape))["response"]
    with pytest.raises(PlanError) as refused:
        parsed = parse_object(job(**spec))
        feasible(parsed, read_shape(parsed.spec.model))
    assert answer["uid"] == "r1" and answer["allowed"] is False
    assert answer["status"]["message"] == str(refused.value) and answer["status"]["message"].startswith("spec.parallelism")


@pytest.mark.parametrize("manifest", BAD, ids=lambda path: path.stem)
def test_a_bad_manifest_is_refused_in_the_words_that_everybody_else_uses(manifest: Path) -> None:
    try:
        given = read_document(manifest.read_text()).value
    except ManifestError:
        return  # no client can send what is no document
    if manifest.stem in ("c3-label-as-number", "c4-misspelt-metadata"):
        return  # the API server refuses such labels, and drops unknown metadata, before the review
    said = [str(problem) for problem in verdict_on(create(given), inline).problems]
    assert sorted(said) == sorted(manifest.with_suffix(".txt").read_text().splitlines())


def test_without_the_models_shape_what_rests_on_the_manifest_alone_is_still_judged() -> None:
    remote = {"model": {"source": "hf://acme/model"}}
    admitted = verdict_on(create(job(**remote)), unknown)
    assert not admitted.problems and "being read. The layout is checked when it has been read" in admitted.warnings[0]
    refused = verdict_on(create(job(**remote, parallelism={"tensor": 3})), unknown)
    assert [problem.field for problem in refused.problems] == ["spec.parallelism"]
    assert not verdict_on(create(job(**remote, parallelism={"auto": True})), unknown).problems


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"metadata": {"name": "job", "labels": {"a": "b"}}}, id="labels"),
        pytest.param({"metadata": {"name": "job", "finalizers": ["foregroundDeletion"]}}, id="finalizers"),
        pytest.param({"status": {"phase": "Running"}}, id="status"),
    ],
)
def test_a_change_beside_the_spec_is_admitted_however_bad_the_spec_is(change: dict[str, Any]) -> None:
    bad = job(parallelism={"tensor": 3})
    assert verdict_on(update(bad, bad | change), never) == ReviewAnswer()


def test_a_job_that_is_being_deleted_may_change_in_any_way() -> None:
    bad = job(parallelism={"tensor": 3})
    leaving = bad | {"metadata": {"name": "job", "deletionTimestamp": "2026-01-31T12:00:00Z"}, "spec": {"nonsense": 1}}
    assert is_exempt(update(bad, leaving)) and verdict_on(update(bad, leaving), never) == ReviewAnswer()


def test_an_update_is_refused_for_what_it_brings_and_not_for_what_was_there() -> None:
    bad = job(parallelism={"tensor": 3})
    suspended = deepcopy(bad)
    suspended["spec"]["suspend"] = True
    kept = verdict_on(update(bad, suspended), read_shape)
    assert kept.problems == () and any("tensor 3" in warning for warning in kept.warnings)
    worse = deepcopy(suspended)
    worse["spec"]["resources"]["nodes"] = 0
    assert "spec.resources.nodes" in {problem.field for problem in verdict_on(update(bad, worse), read_shape).problems}


def test_who_suspends_or_resumes_is_not_advised_again() -> None:
    good = job()
    assert verdict_on(create(good), read_shape).warnings
    suspended, changed = deepcopy(good), deepcopy(good)
    suspended["spec"]["suspend"] = True
    changed["spec"]["training"]["maxSteps"] = 7
    assert verdict_on(update(good, suspended), read_shape) == verdict_on(update(suspended, good), read_shape) == ReviewAnswer()
    assert verdict_on(update(good, changed), read_shape).warnings


def test_a_job_that_does_not_fit_is_admitted_with_the_numbers() -> None:
    shape = json.loads((Path(__file__).parents[2] / "shapes" / "llama-3-70b.json").read_text())
    large = job(model={"config": shape}, resources={"nodes": 1, "gpusPerNode": 8, "gpu": "H100-80GB"})
    verdict = verdict_on(create(large), read_shape)
    assert not verdict.problems and verdict.warnings[0].startswith("A rank needs up to ")


def test_a_job_that_fits_is_not_said_to_need_much() -> None:
    small = job(resources={"nodes": 1, "gpusPerNode": 4, "gpu": "H100-80GB"})
    assert not any("A rank needs up to" in warning for warning in verdict_on(create(small), read_shape).warnings)


def test_a_long_warning_is_cut() -> None:
    answer = response({"request": {"uid": "r1"}}, ReviewAnswer(warnings=("x" * 1000,)))["response"]
    assert answer["allowed"] and len(answer["warnings"][0]) == LONGEST_WARNING


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(st.dictionaries(st.sampled_from(["model", "training", "resources", "parallelism", "dataset", "suspend"]), anything), anything)
@pytest.mark.long
def test_no_object_makes_a_review_fail(spec: dict[str, Any], metadata: Any) -> None:
    odd = job() | {"spec": job()["spec"] | spec, "metadata": metadata if isinstance(metadata, dict) else {"name": metadata}}
    for request in (create(odd), create(metadata), update(job(), odd)):
        answer = response({"request": request}, verdict_on(request, unknown))
        assert isinstance(answer["response"]["allowed"], bool)
