"""A job adapted to this machine: nodes on the loopback interface, CPU processes instead of missing GPUs. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from llmtrain_operator.api.job import LLMTrainJob, Parallelism, Resources
from llmtrain_operator.manifest.problem import PlanError, Problem
from llmtrain_operator.manifest.uris import uris
from llmtrain_trainer.config import Mesh, TrainerConfig

MOST_CPU_RANKS = 16
"""A rank takes about half a gigabyte before it holds any weights; more ranks than this are of no use on one machine."""


@dataclass(frozen=True, slots=True)
class Adapted:
    """The job to plan again, and one sentence for each difference from the manifest."""

    job: LLMTrainJob
    notes: tuple[str, ...]


def adapt(job: LLMTrainJob, config: TrainerConfig, *, nodes: int | None, gpus: int) -> Adapted:
    """The job for this machine. `config`: its plan for the machines that the manifest requests. Raises PlanError if it cannot run here."""
    mesh = config.mesh
    if problems := [*_nodes_divide(mesh, nodes), *_too_many(job, mesh, gpus)]:
        raise PlanError(problems)
    on_gpus = config.device == "cuda"
    to_cpu = on_gpus and gpus < mesh.world_size
    count = nodes or mesh.nodes
    if not to_cpu and count == mesh.nodes:
        return Adapted(job, ())
    notes = []
    if to_cpu:
        notes.append(f"This machine has {gpus or 'no'} GPUs and the job requests {mesh.world_size}: the same layout runs as CPU processes.")
    if count != mesh.nodes:
        notes.append(f"The {mesh.world_size} ranks run on {count} nodes on the loopback interface instead of {mesh.nodes}.")
    return Adapted(_pinned(job, config, count, cpu=to_cpu or not on_gpus), tuple(notes))


def _pinned(job: LLMTrainJob, config: TrainerConfig, nodes: int, *, cpu: bool) -> LLMTrainJob:
    """The job with the plan's choices written into it, so that planning it for this machine gives the same mesh and batch."""
    mesh, each = config.mesh, config.mesh.world_size // nodes
    asked = job.spec.resources
    resources = Resources(nodes=nodes, procs_per_node=each) if cpu else asked.model_copy(update={"nodes": nodes, "gpus_per_node": each})
    parallelism = Parallelism(
        engine=config.engine,
        tensor=mesh.tp,
        pipeline=mesh.pp,
        context=mesh.cp,
        expert=mesh.ep,
        data=mesh.dp,
        virtual_stages=len(mesh.stages) // mesh.pp,
        schedule=mesh.schedule,
        zero_stage=mesh.zero_stage,
        offload=job.spec.parallelism.offload,
        deepspeed=job.spec.parallelism.deepspeed,
    )
    training = config.training.model_copy(update={"micro_batch_size": config.batch.micro_size})
    model = job.spec.model.model_copy(update={"attention": "sdpa"}) if cpu and job.spec.model.attention == "flash" else job.spec.model
    spec = job.spec.model_copy(update={"resources": resources, "parallelism": parallelism, "training": training, "model": model})
    return job.model_copy(update={"spec": spec})


def claims(job: LLMTrainJob) -> list[Problem]:
    """A problem for each volume claim that the job names: claims exist in clusters only."""
    return [
        Problem(
            place.field,
            place.uri,
            "a volume claim exists only in a cluster",
            f"Use a file:// or s3:// location on this machine: --set {place.field}=file:///some/directory",
        )
        for place in uris(job.spec)
        if place.claim is not None
    ]


def _nodes_divide(mesh: Mesh, nodes: int | None) -> list[Problem]:
    world = mesh.world_size
    if nodes is None or (nodes >= 1 and world % nodes == 0):
        return []
    choices = ", ".join(str(count) for count in range(1, world + 1) if world % count == 0)
    return [Problem("--nodes", str(nodes), f"it must divide the {world} ranks of the job", f"Use one of {choices}")]


def _too_many(job: LLMTrainJob, mesh: Mesh, gpus: int) -> list[Problem]:
    asked = job.spec.resources
    if not asked.gpus_per_node or gpus >= mesh.world_size or mesh.world_size <= MOST_CPU_RANKS:
        return []
    return [
        Problem(
            "spec.resources",
            f"{asked.nodes} nodes with {asked.gpus_per_node} GPUs each",
            f"this machine has {gpus or 'no'} GPUs, and at most {MOST_CPU_RANKS} ranks run as CPU processes",
            "Request less here: --set spec.resources.nodes=1 --set spec.resources.gpusPerNode=8, with degrees that multiply to 8",
        )
    ]
