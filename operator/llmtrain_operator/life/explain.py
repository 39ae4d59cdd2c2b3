"""The state of a job in one sentence, then the evidence as rows, for `llmtrain why`. Pure.

The sentence comes from the same decision that the operator takes from the same objects, so it is available while no operator runs.
"""

from __future__ import annotations

from dataclasses import dataclass

from llmtrain_operator.api.job import Phase
from llmtrain_operator.life.attempt import AttemptView
from llmtrain_operator.life.decide import decide
from llmtrain_operator.life.decision import Action
from llmtrain_operator.life.failures.diagnose import of_pod
from llmtrain_operator.life.failures.failure import Evidence
from llmtrain_operator.life.failures.remedies import remedy
from llmtrain_operator.life.observed import Observed, Pod
from llmtrain_operator.life.times import seconds_of
from llmtrain_trainer.config.formats import span

MOST_PODS = 8
UNSEEN_SECONDS = 30.0
"""Seconds after which a manifest that no operator has processed means that none is running or watching."""

_AFTER = ("Backoff", "Stopping", "RestartBudgetSpent")
"""Reasons that only follow a failure: the remedy for that failure is shown too."""

Row = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The phase of the job, and why."""

    phase: Phase
    reason: str
    sentence: str


def state_of(observed: Observed, operator: str | None = None) -> State:
    """The state now. `operator`: one sentence if no operator is running, None if one is.

    If the operator would act now, its own recorded message is used: it also knows the other jobs and the API server's refusals.
    """
    decision, status = decide(observed), observed.job.status
    if decision.action in (Action.NOTHING, Action.LEAVE_ALONE):
        return State(phase=decision.phase, reason=decision.reason, sentence=decision.message)
    if operator is not None:
        said = f"{operator} Running pods continue; nothing new starts."
        return State(phase=status.phase or "Pending", reason="NoOperator", sentence=said)
    if status.phase is None or status.message is None or status.observed_generation != observed.job.generation:
        return State(phase=status.phase or "Pending", reason="Unseen", sentence=_unseen(observed))
    running = next((one for one in status.conditions if one.type == "Running"), None)
    return State(phase=status.phase, reason=running.reason if running else status.phase, sentence=status.message)


def rows(observed: Observed, state: State, operator: str | None) -> list[Row]:
    """The evidence, as label and text."""
    job, status, now = observed.job, observed.job.status, observed.now
    failure = status.failure
    found: list[Row] = []
    rank = failure.first_failing_rank if failure else None
    advice = [remedy(state.reason, job.name, rank), remedy(failure.reason, job.name, rank) if failure and state.reason in _AFTER else None]
    if any(advice):
        found.append(("what to do", " ".join(filter(None, advice))))
    if operator is not None and state.reason != "NoOperator":
        found.append(("operator", operator))
    if failure is not None:
        facts = [f"attempt {failure.attempt}"] if failure.attempt is not None else []
        facts += [f"step {failure.step}"] if failure.step is not None else []
        facts += [f"rank {failure.first_failing_rank} first"] if failure.first_failing_rank is not None else []
        facts += [f"on {failure.node}"] if failure.node else []
        facts += [_ago(failure.time, now)] if failure.time else []
        found.append(("last failure", f"{failure.reason} ({', '.join(facts)}): {failure.message}"))
    if status.checkpoint is not None:
        found.append(("checkpoint", f"step {status.checkpoint.step}, {_ago(status.checkpoint.time, now)}: {status.checkpoint.uri}"))
    if status.restarts is not None and status.restarts.total:
        found.append(("restarts", _restarts(observed)))
    queue = job.spec.scheduling.queue if job.spec else None
    if queue or observed.admission is not None:
        found.append(("queue", _queue(observed, queue)))
    if conditions := [f"{one.type}={one.status}" + (f" ({one.reason})" if one.reason else "") for one in status.conditions]:
        found.append(("conditions", ", ".join(conditions)))
    return found


def pods(observed: Observed) -> tuple[str, list[tuple[str, str, str, str]]]:
    """A headline, and the pods of the newest attempt that are not running normally: name, phase, node, problem."""
    gang = AttemptView(observed)
    troubled = [(pod, trouble) for pod in gang.pods.values() if (trouble := _trouble(observed, gang, pod))]
    listed = [(pod.name, pod.phase, pod.node or "-", trouble) for pod, trouble in troubled[:MOST_PODS]]
    if not gang.pods:
        return "no pods", []
    fine, more = len(gang.pods) - len(troubled), len(troubled) - len(listed)
    parts = [
        f"attempt {gang.number}: {len(gang.pods)} of {gang.size} pods",
        f"{fine} run" if fine else "",
        f"{more} more like these" if more else "",
    ]
    return ", ".join(part for part in parts if part), listed


def _trouble(observed: Observed, gang: AttemptView, pod: Pod) -> str:
    """What is wrong with a pod; empty if it runs."""
    node = observed.nodes.get(pod.node) if pod.node else None
    failure = of_pod(Evidence(pod=pod, node=node, lost=gang.lost(pod), now=observed.now))
    warned = observed.warnings.get(pod.name)
    if failure is not None:
        return f"{failure.reason}: {failure.message}"
    if pod.unschedulable:
        return f"Unschedulable: {pod.unschedulable}"
    if warned is not None and not pod.started:
        return f"{warned.reason}: {warned.message}"
    if pod.waiting:
        return f"{pod.waiting}: {pod.waiting_message}" if pod.waiting_message else pod.waiting
    if pod.stopped:
        return "ended normally"
    return "" if pod.running else ("has no node yet" if pod.node is None else "is being started")


def _unseen(observed: Observed) -> str:
    age = observed.now - observed.job.created if observed.job.created is not None else 0.0
    if observed.job.status.phase is None and age < UNSEEN_SECONDS:
        return "The operator has not processed the job yet."
    return f"The operator has not processed this manifest, which is {span(age)} old: it may be down, or watch other namespaces."


def _restarts(observed: Observed) -> str:
    restarts, spec = observed.job.status.restarts, observed.job.spec
    assert restarts is not None  # the caller asked
    budget = f" of {spec.resilience.restarts.max} in {spec.resilience.restarts.window}" if spec else ""
    return f"{restarts.total}, {restarts.in_place} of them in place; {restarts.in_window}{budget} count now"


def _queue(observed: Observed, queue: str | None) -> str:
    admission = observed.admission
    if admission is None:
        return (
            f"{queue} of {observed.gang}" if observed.gang not in ("operator", "none") else f"{queue}; no scheduler in this cluster uses it"
        )
    said = f": {admission.message}" if admission.message else ""
    return f"{queue or observed.gang}, {'admitted' if admission.admitted else 'not admitted'}{said}"


def _ago(time: str | None, now: float) -> str:
    since = seconds_of(time)
    return "at an unknown time" if since is None else f"{span(now - since)} ago"
