"""No manifest costs the planner more than a moment, whatever numbers, lists or nesting it holds, and each gets an answer."""

from __future__ import annotations

import copy
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from llmtrain_operator.api.job.resources import MOST_NODES
from llmtrain_operator.kube.judging.judgement import Planned, planned
from llmtrain_operator.life.from_objects import job_of
from llmtrain_operator.manifest.parse import ManifestError, parse_manifest, parse_object
from llmtrain_operator.manifest.problem import LONGEST, PlanError
from llmtrain_operator.plan.feasible import feasible
from llmtrain_operator.sources import read_shape

pytestmark = pytest.mark.long

CALLS = 2_000_000
"""Calls of Python functions that one answer may take, about a second of CPU on a server. Counted, so that every machine judges alike."""

STUCK = 60
"""Seconds of CPU after which one call that does not return counts as a failure."""

CONFIG = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128}
JOB: dict[str, Any] = {
    "apiVersion": "llmtrain.io/v1alpha1",
    "kind": "LLMTrainJob",
    "metadata": {"name": "job", "namespace": "team"},
    "spec": {
        "model": {"config": {**CONFIG, "vocab_size": 512}},
        "tokenizer": {"train": {"vocabSize": 512}},
        "dataset": [{"source": "s3://data/x.txt"}],
        "training": {"globalBatchSize": 8, "sequenceLength": 64, "maxSteps": 10},
        "resources": {"nodes": 1, "procsPerNode": 1},
    },
}


def changed(**sections: Any) -> dict[str, Any]:
    """JOB with fields of its sections replaced: training={...}, config={...}."""
    job = copy.deepcopy(JOB)
    for name, fields in sections.items():
        place = job["spec"]["model"]["config"] if name == "config" else job["spec"].setdefault(name, {})
        place.update(fields)
    return job


def answer(manifest: Any) -> str:
    """`planned`, or the sentences of the refusal."""
    try:
        job = parse_object(manifest)
        feasible(job, read_shape(job.spec.model))
    except (ManifestError, PlanError) as error:
        return str(error)
    return "planned"


def bounded(manifest: Any) -> str:
    """The answer, within CALLS.

    Raises:
        AssertionError: the answer took more calls, or one call does not return.
    """
    calls = 0

    def count(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event == "call"
        assert calls <= CALLS, f"more than {CALLS:,} calls"

    def stuck(_signal: int, _frame: FrameType | None) -> None:
        raise AssertionError(f"one call takes over {STUCK} s of CPU")

    before = signal.signal(signal.SIGVTALRM, stuck)
    signal.setitimer(signal.ITIMER_VIRTUAL, STUCK)
    sys.setprofile(count)
    try:
        return answer(manifest)
    finally:
        sys.setprofile(None)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


SIZES = st.one_of(
    st.integers(1, 64),
    st.sampled_from([720, 4032, 4096, 9999, 10_000, 65_536, 720_720, 2**24, 735_134_400, 10**9, 2**31, 2**62, 9 * 10**18]),
    st.integers(1, 2**63),
)
KEYS = ("num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size", "vocab_size")
MIXTURE = ("num_experts", "num_experts_per_tok", "moe_intermediate_size", "decoder_sparse_step")
DEGREES = ("tensor", "pipeline", "context", "expert", "data")
GPUS = {"gpusPerNode": 60, "gpu": "H100-80GB", "procsPerNode": None}


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    config=st.dictionaries(st.sampled_from(KEYS + MIXTURE), SIZES),
    family=st.sampled_from(["llama", "qwen3_moe", "mixtral", "gpt2", "t5"]),
    training=st.dictionaries(st.sampled_from(["globalBatchSize", "microBatchSize", "sequenceLength", "maxSteps"]), SIZES),
    parallelism=st.dictionaries(st.sampled_from(DEGREES), st.integers(1, 4096)),
    engine=st.sampled_from(["native", "deepspeed", "megatron", "accelerate", "auto"]),
    auto=st.booleans(),
    resources=st.sampled_from([{}, GPUS | {"nodes": 4032}, GPUS | {"nodes": 720}, {"nodes": 4096, "procsPerNode": 256, "memory": "1Gi"}]),
)
def test_no_sizes_take_long(
    config: dict[str, int],
    family: str,
    training: dict[str, int],
    parallelism: dict[str, int],
    engine: str,
    auto: bool,
    resources: dict[str, Any],
) -> None:
    layout = {**parallelism, "engine": engine, "auto": auto}
    bounded(changed(config=config | {"model_type": family}, training=training, parallelism=layout, resources=resources))


LARGE = {"num_hidden_layers": 80, "hidden_size": 7680, "num_attention_heads": 60, "num_key_value_heads": 60, "intermediate_size": 28672}
MANY = {"num_experts": 720, "num_experts_per_tok": 8, "moe_intermediate_size": 1536, "model_type": "qwen3_moe"}


HUGE = LARGE | {"hidden_size": 76800, "intermediate_size": 286720}


@pytest.mark.parametrize(
    ("engine", "size"), [("native", LARGE), ("deepspeed", LARGE | MANY), ("auto", HUGE)], ids=["dense", "experts", "huge"]
)
def test_a_search_over_numbers_with_many_divisors_ends(engine: str, size: dict[str, Any]) -> None:
    wide = changed(
        config=size | {"vocab_size": 720720},
        training={"globalBatchSize": 735134400, "sequenceLength": 16384},
        parallelism={"auto": True, "engine": engine},
        resources=GPUS | {"nodes": 4032, "memory": "100Gi"},
    )
    bounded(wide)


def test_a_search_that_was_cut_short_says_so() -> None:
    job = parse_object(
        changed(
            config=LARGE | {"vocab_size": 128256},
            training={"globalBatchSize": 735134400, "sequenceLength": 16384},
            parallelism={"auto": True},
            resources=GPUS | {"nodes": 4032},
        )
    )
    assert any("set tensor, pipeline, context or expert" in why for why in feasible(job, read_shape(job.spec.model)).why)


@pytest.mark.parametrize("key", ["num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size", "max_position_embeddings"])
def test_a_size_beyond_every_model_is_refused_by_its_key(key: str) -> None:
    assert f"spec.model.config.{key} is 1000000000000: it must be at most" in bounded(changed(config={key: 10**12}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mlp_only_layers", 7),
        ("mlp_only_layers", ["a"]),
        ("tie_word_embeddings", "false"),
        ("attention_bias", 2),
        ("model_type", "x" * 9999),
    ],
)
def test_a_config_of_another_type_is_refused_by_its_key(key: str, value: Any) -> None:
    mixture = {"model_type": "qwen2_moe", "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
    family = mixture | {"shared_expert_intermediate_size": 64} if key == "mlp_only_layers" else {}
    assert f"spec.model.config.{key}" in bounded(changed(config={**family, key: value}))


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


TOO_MUCH: dict[str, Callable[[], dict[str, Any]]] = {
    "nested 250 deep": lambda: changed(config={"x": nested(250)}),
    "nested 5000 deep": lambda: changed(config={"x": nested(5000)}),
    "deep lists": lambda: changed(parallelism={"engine": "deepspeed", "deepspeed": {"x": [[nested(100)]]}}),
    "a million values": lambda: changed(config={"x": [0] * 1_000_000}),
    "many unknown fields": lambda: changed(**{f"trainig{index}": {} for index in range(20_000)}),
    "many bad items": lambda: {**JOB, "spec": {**JOB["spec"], "dataset": [{"sorce": 1}] * 10_000}},
    "a long word": lambda: changed(training={"precision": "b" * 1_000_000}),
    "a long name of a field": lambda: changed(**{"t" * 1_000_000: {}}),
    "a number of 4,000 digits": lambda: changed(config={"x": 10**4000}),
    "a number of 100,000 digits": lambda: changed(training={"maxSteps": 1 << 400_000}),
    "not a number": lambda: changed(config={"x": float("nan")}),
    "without end": lambda: changed(training={"optimizer": {"learningRate": float("inf")}}),
    "half a character": lambda: changed(config={"model_type": "\ud800"}),
    "half a character in a key": lambda: changed(config={"\ud800": 1}),
}


@pytest.mark.parametrize("made", TOO_MUCH.values(), ids=TOO_MUCH.keys())
def test_too_much_of_anything_is_refused_in_a_moment(made: Callable[[], dict[str, Any]]) -> None:
    said = bounded(made())
    assert said != "planned" and len(said) < 20_000


def test_what_kubernetes_keeps_beside_the_spec_is_not_judged() -> None:
    fields = {"managedFields": [{"fieldsV1": nested(500)}], "annotations": {"Example.com/note": "y" * 500_000}}
    assert answer({**JOB, "metadata": {**JOB["metadata"], **fields}, "status": nested(500)}) == "planned"


def test_a_batch_that_no_machine_holds_is_refused() -> None:
    said = answer(changed(training={"globalBatchSize": 10**9, "microBatchSize": 10**9, "sequenceLength": 2**24}))
    assert "TiB" in said


@example("a: " + "9" * 5000)
@example("spec: 0x" + "f" * 5000)
@example("a: &a [*a, *a]")
@example("[" * 5000)
@example("x" * (2 << 20))
@settings(max_examples=50, deadline=None)
@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with pytest.raises(ManifestError):
        parse_manifest(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_value_in_any_place_gets_an_answer(data: st.DataObject) -> None:
    job = copy.deepcopy(JOB)
    place: Any = job
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys)) if keys else None
        if key is None or not isinstance(place[key], (dict, list)) or data.draw(st.integers(0, 3)) == 0:
            break
        place = place[key]
    if key is not None:
        place[key] = data.draw(JSON)
    assert answer(job)


def test_a_refusal_fits_into_a_status_however_long_the_names_in_it() -> None:
    names = {f"{index:02}" + "n" * 100_000: {"x": 1} for index in range(30)}
    refused = planned(changed(**names), {})
    assert isinstance(refused, Planned) and refused.refusal is not None and len(refused.refusal) <= LONGEST
    assert len(job_of(changed(**names)).refusal or "") <= LONGEST


def test_what_would_fit_is_a_job_that_can_be_written() -> None:
    size = {"num_hidden_layers": 9000, "hidden_size": 16384, "num_attention_heads": 64, "intermediate_size": 65536, "vocab_size": 512}
    wide = changed(config=size, training={"globalBatchSize": 720_720}, resources=GPUS | {"nodes": 1, "gpusPerNode": 1})
    job = parse_object(wide)
    for other in feasible(job, read_shape(job.spec.model)).alternatives:
        assert dict(other.changes).get("spec.resources.nodes", 1) <= MOST_NODES
