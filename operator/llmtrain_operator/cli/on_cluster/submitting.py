"""`llmtrain submit` and `llmtrain render`: plan a manifest, then send it to a cluster or print its objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from llmtrain_operator.api.gang_schedulers import GangScheduler
from llmtrain_operator.api.phases import FINAL
from llmtrain_operator.cli.manifest import ManifestOption, SetOption, load_for_cluster, load_manifest
from llmtrain_operator.cli.on_cluster.access import Access, on_cluster
from llmtrain_operator.cli.refusal import TOO_LARGE, ClusterError, UsageError
from llmtrain_operator.cli.say import say
from llmtrain_operator.version import version

if TYPE_CHECKING:
    from llmtrain_operator.api.job import LLMTrainJob
    from llmtrain_operator.plan.plan import Plan

DryRun = Literal["client", "server"]


def render(
    file: ManifestOption,
    attempt: Annotated[int, typer.Option(help="Number of the attempt.", min=1)] = 1,
    image: Annotated[
        str | None,
        typer.Option(help="Trainer image of a job that names none. Default: the image of this version.", envvar="LLMTRAIN_TRAINER_IMAGE"),
    ] = None,
    gang: Annotated[Literal["auto", GangScheduler, "none"], typer.Option(help="Gang scheduler, if the manifest says auto.")] = "auto",
    settings: SetOption = None,
) -> None:
    """Print what the operator would create.

    Prints the objects of one attempt as YAML; nothing is sent to a cluster.
    """
    import secrets

    import yaml

    from llmtrain_operator.kube.render.render import render as objects
    from llmtrain_operator.kube.render_settings import RenderSettings
    from llmtrain_operator.plan.plan import plan
    from llmtrain_operator.sources import read_shape

    job = load_manifest(file, settings)
    chosen = job.spec.scheduling.gang if job.spec.scheduling.gang != "auto" else gang
    made = objects(
        job,
        plan(job, read_shape(job.spec.model)),
        attempt,
        RenderSettings(image=image or _default_image()),
        uid=None,
        gang="operator" if chosen == "auto" else chosen,
        secret=secrets.token_hex(32),
    )
    say(yaml.safe_dump_all(list(made), sort_keys=False, width=140).rstrip())


@on_cluster
async def submit(
    cluster: Access,
    file: ManifestOption,
    settings: SetOption = None,
    dry_run: Annotated[
        DryRun | None, typer.Option(help="client: plan only. server: also validate on the API server, without storing anything.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Submit it even if the local plan refuses it; the cluster still validates it.")
    ] = False,
) -> None:
    """Submit a job to a cluster.

    It is planned first. An existing job with that name is updated. Exit codes: 2 it is refused, 3 it does not fit.
    """
    job, tree = load_for_cluster(file, settings)
    manifest = _placed(tree, cluster)
    say(_plan(job, force))
    name, namespace = job.metadata.name, manifest["metadata"]["namespace"]
    if dry_run == "client":
        say(f"{name} would be submitted to namespace {namespace}.")
        return
    before = await _before(cluster, namespace, name)
    after = await _apply(cluster, manifest, keep=dry_run is None)
    say(_said(before, after, namespace, keep=dry_run is None))
    if dry_run is None:
        here = "" if namespace == cluster.namespace and not cluster.given else f" -n {namespace}"
        say(f"Next: llmtrain watch {name}{here}")


def _placed(tree: Any, cluster: Access) -> dict[str, Any]:
    """The manifest with a namespace: its own, which -n may not contradict, else the one of -n or of the context."""
    written = tree["metadata"].get("namespace")
    if written and cluster.given and written != cluster.namespace:
        raise UsageError(f"metadata.namespace is {written} and -n is {cluster.namespace}: leave one of them out.")
    return {**tree, "metadata": {**tree["metadata"], "namespace": written or cluster.namespace}}


def _plan(job: LLMTrainJob, force: bool) -> str:
    """One line on the plan. Without `force`, raises PlanError or ClusterError if it is refused or does not fit."""
    from llmtrain_operator.manifest.problem import PlanError
    from llmtrain_operator.plan.feasible import feasible
    from llmtrain_operator.sources import read_shape

    try:
        made = feasible(job, read_shape(job.spec.model))
    except PlanError as error:
        if not force:
            raise
        return f"{job.metadata.name}: {' '.join(map(str, error.problems))}"
    if not made.fits and not force:
        way_out = "`llmtrain plan` shows what would fit; --force submits it as it is."
        raise ClusterError(f"{job.metadata.name} does not fit: {_line(made)} {way_out}", TOO_LARGE)
    return f"{job.metadata.name}: {_line(made)}"


def _line(made: Plan) -> str:
    """The plan as `pp2 dp2 tp2 with native on 2 nodes, 16 GPUs; 39.1 GiB per rank; about 41,000 tokens/s.`"""
    from llmtrain_operator.life.status import plan_summary
    from llmtrain_trainer.config.formats import size

    short = plan_summary(made)
    devices = f"{short.gpus} GPUs" if short.gpus else f"{made.mesh.world_size} CPU processes"
    parts = [f"{short.layout} with {short.engine} on {short.nodes} {'node' if short.nodes == 1 else 'nodes'}, {devices}"]
    if short.memory_bytes_per_rank:
        parts.append(f"{size(short.memory_bytes_per_rank)} per rank")
    if short.tokens_per_second:
        parts.append(f"about {short.tokens_per_second:,.0f} tokens/s")
    return "; ".join(parts) + "."


async def _before(cluster: Access, namespace: str, name: str) -> dict[str, Any] | None:
    """The job of that name, if there is one. Raises ClusterError if it has ended: its state is final."""
    from llmtrain_operator.access.jobs import job_path

    found = await cluster.client.get(job_path(namespace, name))
    phase = ((found or {}).get("status") or {}).get("phase")
    if phase in FINAL:
        raise ClusterError(
            f"{name} is already {phase}, and that is final. Delete it with `llmtrain delete {name}`, or choose another metadata.name."
        )
    return found


async def _apply(cluster: Access, manifest: dict[str, Any], *, keep: bool) -> dict[str, Any]:
    from llmtrain_operator.access.jobs import job_path

    path = job_path(manifest["metadata"]["namespace"], manifest["metadata"]["name"])
    query = {"fieldValidation": "Strict"} | ({} if keep else {"dryRun": "All"})
    return await cluster.client.apply(path, manifest, **query)


def _said(before: dict[str, Any] | None, after: dict[str, Any], namespace: str, *, keep: bool) -> str:
    name, would = after["metadata"]["name"], "is" if keep else "would be"
    if before is None:
        return f"{name} {would} submitted to namespace {namespace}."
    same = before["metadata"]["generation"] == after["metadata"]["generation"]
    return f"{name} in namespace {namespace} {would} {'unchanged' if same else 'changed'}."


def _default_image() -> str:
    """As the chart names it. Raises UsageError where the version is unknown."""
    known = version()
    if known is None:
        raise UsageError("The version is unknown here: name the trainer's image with --image or LLMTRAIN_TRAINER_IMAGE.")
    return f"llmtrain/trainer:{known}"
