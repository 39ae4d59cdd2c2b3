"""`llmtrain run` after parsing: plan, write run directories, start agents, watch, report."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.local import machine, trainer
from llmtrain_operator.local.adapt import adapt, claims
from llmtrain_operator.local.agents import AgentProcess, exit_code, kill, start_agents
from llmtrain_operator.local.environment import environment_here
from llmtrain_operator.local.lock import Lock, lock
from llmtrain_operator.local.shutdown import Shutdown
from llmtrain_operator.local.there import not_here
from llmtrain_operator.local.view import View
from llmtrain_operator.local.watch import Snapshot, Watch
from llmtrain_operator.local.workdir import Workdir
from llmtrain_operator.manifest.problem import PlanError
from llmtrain_operator.plan.plan import plan
from llmtrain_operator.plan.trainer_config import trainer_config
from llmtrain_operator.sources import read_shape
from llmtrain_trainer.config import TrainerConfig, Verdict, place
from llmtrain_trainer.config.formats import size

SECONDS_BETWEEN_LOOKS = 0.5


class DoesNotFitError(ValueError):
    """The plan is valid but needs more memory than there is."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A run that can start, and the notes to print first."""

    config: TrainerConfig
    workdir: Workdir
    notes: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Further variables for the agents."""
    held: Lock | None = None
    """Keeps other runs out of the workdir."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the run ended."""

    exit_code: int
    verdict: Verdict | None
    last: Snapshot
    """Has no rows if this run did no step."""

    notices: tuple[str, ...]
    """What any node dropped, truncated, changed or guessed."""

    report: Path | None


def get_ready(job: LLMTrainJob, workdir: Workdir, nodes: int | None = None) -> Ready:
    """Plan for this machine and write the run directories.

    Raises PlanError, DoesNotFitError, WorkdirInUseError if another run has the workdir, or TrainerError if the checkpoints of earlier
    attempts cannot be listed.
    """
    config, notes = _resolve(job, nodes)
    held = lock(workdir.root)
    attempt, resumes = _attempt(config)
    config = config.model_copy(update={"job": config.job.model_copy(update={"attempt": attempt})})
    workdir.write(config, fresh=not resumes)
    environment, left_out = environment_here(job)
    return Ready(config, workdir, (*notes, *left_out), environment, held)


def run(
    ready: Ready, view: View, observe: Callable[[Snapshot], None] = lambda _: None, close: Callable[[Outcome], None] = lambda _: None
) -> Outcome:
    """Start the agents, draw until they end, write the report. `observe` gets every snapshot too.

    `close` prints how the run ended. It is called here, so that a late Ctrl-C does not suppress the reason.
    """
    agents = list[AgentProcess]()
    shutdown = Shutdown(agents, view.say)
    with shutdown.listening():
        try:
            with machine.reserved_ports(1 + ready.config.mesh.nodes) as ports, view:
                agents += start_agents(ready.config, ready.workdir, _cache(), ports, ready.environment)
                last = _attend(agents, shutdown, ready.workdir, view, observe)
        finally:
            kill(agents)
        outcome = _outcome(agents, ready, last, view)
        close(outcome)
    return outcome


def _outcome(agents: list[AgentProcess], ready: Ready, last: Snapshot, view: View) -> Outcome:
    code = exit_code(agents)
    said = [verdict for agent in agents if (verdict := ready.workdir.verdict(agent.node_rank)) is not None]
    notices = tuple(dict.fromkeys(sentence for verdict in said for sentence in verdict.notices))
    outcome = Outcome(exit_code=code, verdict=_decisive(said), last=last, notices=notices, report=None)
    wanted = ready.config.output.report and (last.rows or code == 0)  # otherwise the report of an earlier run is kept
    return replace(outcome, report=_report(ready, view)) if wanted else outcome


def _attend(agents: list[AgentProcess], shutdown: Shutdown, workdir: Workdir, view: View, observe: Callable[[Snapshot], None]) -> Snapshot:
    watch = Watch(agents, workdir)
    while any(agent.alive for agent in agents):
        snapshot = watch.look()
        view.show(snapshot)
        observe(snapshot)
        shutdown.tend(time.monotonic())
        time.sleep(SECONDS_BETWEEN_LOOKS)
    last = watch.look()
    view.show(last)
    return last


def _resolve(job: LLMTrainJob, nodes: int | None) -> tuple[TrainerConfig, tuple[str, ...]]:
    if problems := claims(job):
        raise PlanError(problems)
    shape = read_shape(job.spec.model)
    asked = plan(job, shape)
    config = trainer_config(job, asked, 0)
    adapted = adapt(job, config, nodes=nodes, gpus=machine.gpu_count() if config.device == "cuda" else 0)
    if adapted.job is not job:
        asked = plan(adapted.job, shape)
        config = trainer_config(adapted.job, asked, 0)
    if config.device == "cuda" and not asked.fits:
        raise DoesNotFitError("The job does not fit in the memory of its GPUs. `llmtrain plan` shows layouts that would.")
    _fits_in_memory(config)
    if problems := not_here(job):
        raise PlanError(problems)
    return config, adapted.notes + asked.advice


def _fits_in_memory(config: TrainerConfig) -> None:
    each, has = config.estimate.memory_bytes_per_rank, machine.memory_bytes()
    if config.device == "cpu" and each is not None and each * config.mesh.world_size > has:
        ranks = config.mesh.world_size
        raise DoesNotFitError(
            f"{ranks} CPU processes with {size(each)} each need {size(each * ranks)}, but this machine has {size(has)}. "
            "Use a smaller model or fewer processes."
        )


def _attempt(config: TrainerConfig) -> tuple[int, bool]:
    """The number of this attempt, above all attempts found in the store, and whether there is a checkpoint to resume from."""
    if config.checkpoint is None:
        return 1, False
    destination = place(config.checkpoint.destination)
    if destination.startswith("file://") and not Path(destination.removeprefix("file://")).exists():
        return 1, False  # the usual first run: listing the store would take a second and find nothing
    found = trainer.checkpoints("list", destination)
    resumes = config.checkpoint.resume != "none" and any(row["committed"] for row in found)
    return max((int(row["attempt"]) for row in found), default=0) + 1, resumes


def _cache() -> Path:
    """Directory of prepared data and tokenizers, keyed by content; all runs of this user share it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llmtrain"


def _decisive(known: list[Verdict]) -> Verdict | None:
    """The first verdict with a failure, else the verdict of node 0."""
    return next((verdict for verdict in known if verdict.exit_code), known[0] if known else None)


def _report(ready: Ready, view: View) -> Path | None:
    try:
        return trainer.write_report(ready.workdir.node(0), ready.workdir.nodes(), ready.workdir.report)
    except trainer.TrainerError as error:
        view.say(f"The report could not be written: {error}")
        return None
