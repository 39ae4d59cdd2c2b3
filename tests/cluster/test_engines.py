"""Engines deepspeed and megatron as jobs of the operator: two pods, one of which is killed; what is trained is what it would have been.

Megatron-core runs on GPUs alone. So the nodes say that they have some: plan, pods and placement are those of a job on GPUs. In its image a
module stands in for CUDA. docs/engines.md says what that shows and what not.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.cluster import images as registry
from tests.cluster.addresses import NODES
from tests.cluster.cluster import Cluster
from tests.cluster.image.build import Images
from tests.cluster.release import Release
from tests.cluster.test_training import GENERATE, run
from tests.cluster.trained_job import TrainedJob, kill_pod, make_bucket, manifest, shows_training
from tests.cluster.waiting import until

from llmtrain_operator.manifest.document import read_document

pytestmark = pytest.mark.cluster

HERE = Path(__file__).parent
DEEPSPEED: dict[str, Any] = read_document((HERE.parents[1] / "examples" / "08-deepspeed-zero-offload.yaml").read_text()).value
STEPS, EVERY = 60, 10
GPUS = 2


@contextmanager
def braked(own: Cluster, made: dict[str, Any]) -> Iterator[tuple[TrainedJob, TrainedJob]]:
    """The job, trained slowly and with a checkpoint, and the same job undisturbed; both are complete in the end."""
    job, undisturbed = TrainedJob.apply(own, made), TrainedJob.apply(own, beside(made))
    try:
        job.until_steps(1, 0, 500)
        job.brake()
        until(lambda: job.status().get("checkpoint", {}).get("step", 0) >= EVERY, "a committed checkpoint")
        yield job, undisturbed
        for each in (job, undisturbed):
            until(lambda each=each: each.status().get("phase") == "Complete", f"{each.name} to be complete", 500)  # type: ignore[misc]
    finally:
        for each in (job, undisturbed):
            each.release()
            each.recorder.end()


def killed_on_the_way(own: Cluster, made: dict[str, Any]) -> TrainedJob:
    """The job, complete after one pod was killed. Every step of it has the loss that it has in a run that nothing disturbs."""
    with braked(own, made) as (job, undisturbed):
        until(lambda: shows_training(own, job.namespace, job.name), "the columns to show training", every=1)
        stored, pods = job.status()["checkpoint"]["step"], job.pods()
        until(lambda: job.recorder.steps[-1].number > stored + 1, "steps after the checkpoint")
        kill_pod(pods[job.pod(1)])
        job.release()
    again = [step.number for step in job.recorder.steps if step.uid not in pods.values()]
    assert stored < min(again) <= stored + EVERY + 1 and (min(again) - 1) % EVERY == 0, (stored, again)
    trained, expected = losses(job), losses(undisturbed)
    assert sorted(trained) == list(range(1, STEPS + 1)) and trained == expected
    return job


def beside(made: dict[str, Any]) -> dict[str, Any]:
    """The same job under another name."""
    other = copy.deepcopy(made)
    other["metadata"]["name"] = "undisturbed"
    other["spec"]["checkpoint"]["destination"] += "-undisturbed"
    return other


def losses(job: TrainedJob) -> dict[int, set[float]]:
    """All that a step ever gave: one loss, also where it was trained twice."""
    found: dict[int, set[float]] = {}
    for step in job.recorder.steps:
        found.setdefault(step.number, set()).add(step.loss)
    return found


@pytest.mark.timeout(1200)
def test_deepspeeds_example_goes_on_in_two_pods_after_one_was_killed_and_transformers_load_what_it_exports(
    own: Cluster, installed: Release, namespace: str, told: None, tmp_path: Path
) -> None:
    server, name = make_bucket(own, namespace), DEEPSPEED["metadata"]["name"]
    made = copy.deepcopy(DEEPSPEED)
    made["metadata"]["namespace"] = namespace
    made["spec"]["dataset"] = [{"source": f"s3://{namespace}/text.jsonl"}]
    made["spec"]["checkpoint"] |= {"destination": f"s3://{namespace}/{name}", "secretName": "s3", "every": {"steps": EVERY}}
    made["spec"]["resources"] = {"nodes": 2, "procsPerNode": 1}
    job = killed_on_the_way(own, made)
    status = job.status()
    assert status["plan"]["engine"] == "deepspeed" and status["plan"]["layout"] == "dp2" and status["attempt"] == 2, status
    said = run(server.environment(), "python", "-c", GENERATE, f"s3://{namespace}/{name}/export/full", tmp_path / "model", "The model")
    assert "reads token" in said, said


@pytest.mark.timeout(1200)
def test_a_suspended_job_goes_on_with_another_engine(own: Cluster, installed: Release, namespace: str, told: None) -> None:
    make_bucket(own, namespace)
    made = manifest(namespace, "changed", STEPS, EVERY)
    with braked(own, made) as (job, undisturbed):
        job.patch(suspend=True)
        job.release()
        until(lambda: job.status()["phase"] == "Suspended", "the job to be suspended")
        stored = job.status()["checkpoint"]["step"]
        job.patch(suspend=False, parallelism={"engine": "deepspeed", "zeroStage": 3})
    status = job.status()
    assert status["plan"]["engine"] == "deepspeed" and status["attempt"] == 2 and EVERY <= stored < STEPS, status
    assert min(step.number for step in job.recorder.steps if step.number > stored) == stored + 1
    trained, expected = losses(job), losses(undisturbed)
    assert sorted(trained) == list(range(1, STEPS + 1))
    for number, found in trained.items():
        assert [*found] == pytest.approx([*expected[number]], abs=1e-5), number


@pytest.fixture
def gpus(own: Cluster) -> Iterator[None]:
    """Both nodes say that they have GPUs, which nobody checks: no device plugin runs there."""
    say(own, str(2 * GPUS))  # for both jobs
    yield
    say(own, None)


def say(own: Cluster, count: str | None) -> None:
    told = json.dumps({"status": {"capacity": {"nvidia.com/gpu": count}}})
    for node in NODES:
        own.kubectl("patch", "node", node, "--subresource=status", "--type=merge", "-p", told)


@pytest.mark.timeout(1200)
def test_megatron_goes_on_in_two_pods_that_hold_gpus_after_one_was_killed(
    own: Cluster, installed: Release, images: Images, namespace: str, gpus: None, told: None
) -> None:
    make_bucket(own, namespace)
    made = manifest(namespace, "megatron", STEPS, EVERY)
    made["spec"]["parallelism"] = {"engine": "megatron", "tensor": 2}
    made["spec"]["resources"] = {"nodes": 2, "gpusPerNode": GPUS, "gpu": "H100-80GB"}
    made["spec"]["scheduling"] = {"image": with_stand_in(images.trainer)}
    job = killed_on_the_way(own, made)
    status = job.status()
    assert status["plan"]["engine"] == "megatron" and status["plan"]["layout"] == "dp2 tp2" and status["attempt"] == 2, status
    pods = json.loads(own.kubectl("get", "pods", "-n", namespace, *map(job.pod, range(2)), "-o", "json"))["items"]
    held = [pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] for pod in pods]
    assert held == [str(GPUS)] * 2  # which node each has is the scheduler's choice: two of them fit on one


def with_stand_in(trainer: str) -> str:
    """The trainer's image, and what stands in for CUDA above it."""
    files = {
        "/opt/stand-in/bin/python": HERE / "stand_in" / "python",
        "/opt/stand-in/cuda_stand_in.py": HERE.parent / "trainer" / "engines" / "megatron" / "cuda_stand_in.py",
    }
    told = {"LLMTRAIN_CUDA_STAND_IN": "cuda_stand_in", "PYTHONPATH": "/opt/stand-in", "PATH": "/opt/stand-in/bin:$PATH"}
    return registry.push_above(trainer, "stand-in", files, told)
