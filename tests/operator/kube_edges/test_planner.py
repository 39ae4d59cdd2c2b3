"""Plans are made once a generation, and a source that hangs or fails is not the operator's end."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from llmtrain_operator.job.problem import PlanError, Problem
from llmtrain_operator.job.shape import ModelShape
from llmtrain_operator.kube.planner import REFUSED_SECONDS, Planner
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


def manifest(generation: int = 1, model: dict[str, Any] | None = None, **parallelism: Any) -> dict[str, Any]:
    training = {"globalBatchSize": 8, "microBatchSize": 1, "sequenceLength": 64, "maxSteps": 10, "precision": "fp32"}
    spec = {
        "model": model or {"config": SHAPE},
        "dataset": [{"source": "hf://acme/text"}],
        "training": training,
        "parallelism": parallelism,
    }
    spec |= {"tokenizer": {"source": "hf://acme/tokenizer"}, "resources": {"nodes": 1, "procsPerNode": 4}}
    metadata = {"name": "job", "namespace": "team", "uid": "u1", "generation": generation}
    return {"apiVersion": "llmtrain.io/v1alpha1", "kind": "LLMTrainJob", "metadata": metadata, "spec": spec}


class Source:
    """A place of models that counts how often it is read, and fails as told."""

    def __init__(self) -> None:
        self.reads, self.fails = 0, False

    def __call__(self, _: Model) -> ModelShape | None:
        self.reads += 1
        if self.fails:
            raise PlanError([Problem("spec.model.source", "s3://a/b", "it cannot be read", "Check the address")])
        return read_shape(Model(config=SHAPE))


@pytest.fixture
def source() -> Source:
    return Source()


async def test_a_plan_is_made_once_a_generation(source: Source) -> None:
    planner = Planner(source)
    plans = [await planner.plan(manifest(generation)) for generation in (1, 1, 2, 2)]
    assert source.reads == 2 and plans[0] is plans[1] and plans[2] is plans[3] and plans[0].plan is not None


async def test_a_refusal_names_every_problem(source: Source) -> None:
    refused = await Planner(source).plan(manifest(tensor=3))
    assert refused.plan is None and refused.refusal is not None and "spec.parallelism.tensor is 3" in refused.refusal


@pytest.mark.parametrize("broken", [{"spec": None}, {"spec": {"model": 3}}, {"spec": []}, {}], ids=str)
async def test_no_manifest_is_too_broken_for_a_sentence(broken: dict[str, Any]) -> None:
    given = {"apiVersion": "llmtrain.io/v1alpha1", "kind": "LLMTrainJob", "metadata": {"name": "job", "uid": "u1"}, **broken}
    refused = await Planner().plan(given)
    assert refused.job is None and refused.refusal


async def test_a_source_that_failed_is_asked_again_after_a_while_and_not_before(source: Source) -> None:
    now, remote = [0.0], manifest(model={"source": "s3://bucket/model"})
    planner = Planner(source, clock=lambda: now[0])
    source.fails = True
    assert (await planner.plan(remote)).refusal and (await planner.plan(remote)).refusal
    assert source.reads == 1
    source.fails, now[0] = False, REFUSED_SECONDS + 1
    assert (await planner.plan(remote)).plan is not None and source.reads == 2


async def test_a_source_that_hangs_gives_a_refusal_in_time() -> None:
    free = threading.Event()
    planner = Planner(lambda _: free.wait(30) and None, within=0.05)  # type: ignore[func-returns-value]
    refused = await planner.plan(manifest(model={"source": "hf://acme/slow"}))
    free.set()
    assert refused.plan is None and refused.refusal is not None and "config.json must be known" in refused.refusal


async def test_the_operators_own_files_are_never_read_for_a_job(source: Source) -> None:
    refused = await Planner(source).plan(manifest(model={"source": "file:///etc"}))
    assert source.reads == 0 and refused.plan is None
