"""A job on this machine: the same mesh elsewhere, or one sentence that says why not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.local.adapt import adapt, claims
from llmtrain_operator.manifest.problem import PlanError
from llmtrain_trainer.config import TrainerConfig

Make = Callable[..., LLMTrainJob]
Resolve = Callable[[LLMTrainJob], TrainerConfig]
GPUS = {"nodes": 2, "gpusPerNode": 4, "gpu": "A100-40GB"}


def degrees(config: TrainerConfig) -> tuple[int, int, int]:
    return config.mesh.pp, config.mesh.dp, config.mesh.tp


def test_a_cpu_job_is_left_as_it_is(make_job: Make, resolve: Resolve) -> None:
    job = make_job()
    adapted = adapt(job, resolve(job), nodes=None, gpus=0)
    assert adapted.job is job
    assert adapted.notes == ()


@pytest.mark.parametrize("nodes", [1, 2, 4])
def test_nodes_on_the_loopback_share_the_same_mesh(make_job: Make, resolve: Resolve, nodes: int) -> None:
    job = make_job()
    config = resolve(adapt(job, resolve(job), nodes=nodes, gpus=0).job)
    assert (config.mesh.nodes, config.mesh.procs_per_node) == (nodes, 8 // nodes)
    assert degrees(config) == (2, 2, 2)


def test_nodes_that_do_not_divide_the_ranks_are_refused(make_job: Make, resolve: Resolve) -> None:
    job = make_job()
    with pytest.raises(PlanError, match=r"--nodes is 3: it must divide the 8 ranks of the job\. Use one of 1, 2, 4, 8\."):
        adapt(job, resolve(job), nodes=3, gpus=0)


def test_a_gpu_job_runs_as_cpu_processes_where_gpus_are_missing(make_job: Make, resolve: Resolve) -> None:
    job = make_job(resources=GPUS)
    asked = resolve(job)
    adapted = adapt(job, asked, nodes=None, gpus=1)
    config = resolve(adapted.job)
    assert adapted.notes == ("This machine has 1 GPUs and the job requests 8: the same layout runs as CPU processes.",)
    assert (asked.device, config.device) == ("cuda", "cpu")
    assert (degrees(config), config.mesh.stages, config.batch) == (degrees(asked), asked.mesh.stages, asked.batch)


def test_a_gpu_job_uses_the_gpus_that_are_there(make_job: Make, resolve: Resolve) -> None:
    job = make_job(resources=GPUS)
    config = resolve(adapt(job, resolve(job), nodes=1, gpus=8).job)
    assert (config.device, config.mesh.nodes, config.mesh.procs_per_node) == ("cuda", 1, 8)


def test_what_auto_chose_for_the_gpus_stays_on_the_cpu(make_job: Make, resolve: Resolve) -> None:
    job = make_job(resources=GPUS, parallelism={"auto": True})
    asked = resolve(job)
    config = resolve(adapt(job, asked, nodes=None, gpus=0).job)
    assert (degrees(config), config.batch) == (degrees(asked), asked.batch)
    assert config.training.activation_checkpointing == asked.training.activation_checkpointing


def test_flash_attention_gives_way_on_a_cpu(make_job: Make, resolve: Resolve) -> None:
    model = {"config": make_job().spec.model.config, "attention": "flash"}
    job = make_job(resources=GPUS, model=model, training={"globalBatchSize": 16, "sequenceLength": 64, "maxSteps": 10})
    assert resolve(adapt(job, resolve(job), nodes=None, gpus=0).job).model.attention == "sdpa"


def test_more_gpus_than_one_machine_can_play_are_refused_with_a_way_out(make_job: Make, resolve: Resolve) -> None:
    job = make_job(
        resources={"nodes": 4, "gpusPerNode": 8, "gpu": "A100-40GB"},
        training={"globalBatchSize": 64, "sequenceLength": 64, "maxSteps": 10},
    )
    with pytest.raises(PlanError, match=r"at most 16 ranks run as CPU processes\. Request less here: --set"):
        adapt(job, resolve(job), nodes=None, gpus=0)


def test_a_volume_claim_is_refused_by_its_field(make_job: Make) -> None:
    job = make_job(
        dataset=[{"source": "pvc://claim/text.jsonl"}],
        evaluation={"dataset": [{"source": "pvc://claim/held.jsonl"}]},
        checkpoint={"destination": "pvc://claim/ckpt"},
    )
    fields = ["spec.dataset[0].source", "spec.evaluation.dataset[0].source", "spec.checkpoint.destination"]
    assert [problem.field for problem in claims(job)] == fields
