"""Plans are made once a generation, and a source that hangs or fails is not the operator's end."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from llmtrain_operator.kube.judging.planner import REFUSED_SECONDS, Planner, StillReadingError
from llmtrain_operator.kube.judging.shapes import Shapes
from llmtrain_operator.manifest.problem import NotKnownError, PlanError, Problem
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
    planner = Planner(Shapes(source, lambda: 1e9 * source.reads))  # what was read is stale at once
    remote = {"source": "s3://bucket/model"}
    plans = [await planner.plan(manifest(generation, remote)) for generation in (1, 1, 2, 2)]
    assert source.reads == 2 and plans[0] == plans[1] and plans[2] == plans[3] and plans[0].plan is not None


async def test_a_refusal_names_every_problem(source: Source) -> None:
    refused = await Planner(Shapes(source)).plan(manifest(tensor=3))
    assert refused.plan is None and refused.refusal is not None and "spec.parallelism.tensor is 3" in refused.refusal


@pytest.mark.parametrize("broken", [{"spec": None}, {"spec": {"model": 3}}, {"spec": []}, {}], ids=str)
async def test_no_manifest_is_too_broken_for_a_sentence(broken: dict[str, Any]) -> None:
    given = {"apiVersion": "llmtrain.io/v1alpha1", "kind": "LLMTrainJob", "metadata": {"name": "job", "uid": "u1"}, **broken}
    refused = await Planner().plan(given)
    assert refused.job is None and refused.refusal


async def test_a_source_that_failed_is_asked_again_after_a_while_and_not_before(source: Source) -> None:
    now, remote = [0.0], manifest(model={"source": "s3://bucket/model"})
    planner = Planner(Shapes(source, lambda: now[0]), lambda: now[0])
    source.fails = True
    assert (await planner.plan(remote)).refusal and (await planner.plan(remote)).refusal
    assert source.reads == 1
    source.fails, now[0] = False, REFUSED_SECONDS + 1
    assert (await planner.plan(remote)).plan is not None and source.reads == 2


async def test_a_source_that_hangs_gives_a_refusal_in_time() -> None:
    free = threading.Event()
    planner = Planner(Shapes(lambda _: free.wait(30) and None), within=0.05)  # type: ignore[func-returns-value]
    refused = await planner.plan(manifest(model={"source": "hf://acme/slow"}))
    free.set()
    assert refused.plan is None and refused.refusal is not None and "config.json must be known" in refused.refusal


async def test_the_operators_own_files_are_never_read_for_a_job(source: Source) -> None:
    refused = await Planner(Shapes(source)).plan(manifest(model={"source": "file:///etc"}))
    assert source.reads == 0 and refused.plan is None


async def test_a_source_is_read_once_for_all_jobs_that_name_it(source: Source) -> None:
    shapes, model = Shapes(source), Model(source="s3://bucket/model")
    found = await asyncio.gather(*(shapes.within(model, 10) for _ in range(20)))
    assert source.reads == 1 and all(found) and shapes.now(model) == found[0]


async def test_who_cannot_wait_is_told_so_and_knows_the_shape_later() -> None:
    free = threading.Event()

    def slow(_: Model) -> ModelShape | None:
        free.wait(30)
        return read_shape(Model(config=SHAPE))

    shapes, model = Shapes(slow), Model(source="hf://acme/model")
    with pytest.raises(NotKnownError, match=r"config\.json is being read"):
        shapes.now(model)
    free.set()
    assert await shapes.within(model, 10) == shapes.now(model)


async def test_a_source_that_fails_refuses_nothing_for_good(source: Source) -> None:
    source.fails, model = True, Model(source="s3://bucket/model")
    shapes = Shapes(source)
    with pytest.raises(PlanError):
        await shapes.within(model, 10)
    with pytest.raises(NotKnownError, match="it cannot be read"):
        shapes.now(model)


async def test_a_source_that_hangs_holds_up_no_worker_and_the_job_is_woken_when_it_answers() -> None:
    free, woken = threading.Event(), asyncio.Queue[tuple[str, str]]()

    def slow(model: Model) -> ModelShape | None:
        if model.source is not None:
            free.wait(30)
        return read_shape(Model(config=SHAPE))

    planner, remote = Planner(Shapes(slow), wake=woken.put_nowait), manifest(model={"source": "hf://acme/slow"})
    for _ in range(3):
        with pytest.raises(StillReadingError):
            await planner.plan_now(remote)
    assert (await planner.plan_now({**manifest(), "metadata": {"name": "other", "uid": "u2"}})).plan is not None
    assert woken.empty()
    free.set()
    assert await asyncio.wait_for(woken.get(), 120) == ("team", "job")
    assert (await planner.plan_now(remote)).plan is not None and woken.empty()


@pytest.mark.parametrize(
    ("below", "given", "may"),
    [
        (("hf://", "s3://models"), "hf://acme/model", True),
        (("hf://", "s3://models"), "s3://models/a", True),
        (("hf://", "s3://models"), "s3://models-of-others/a", False),
        ((), "hf://acme/model", False),
    ],
)
async def test_a_source_that_the_administrator_closed_is_never_read(below: tuple[str, ...], given: str, may: bool, source: Source) -> None:
    shapes = Shapes(source, below=below)
    found = await Planner(shapes).plan(manifest(model={"source": given}))
    assert (found.plan is not None) is may is (source.reads > 0)
    if not may:
        assert found.refusal is not None and "the administrator of the cluster lets the operator read models" in found.refusal
        with pytest.raises(PlanError):
            shapes.now(Model(source=given))
