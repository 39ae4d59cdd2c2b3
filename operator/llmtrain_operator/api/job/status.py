"""The schema of .status, which `kubectl get ltj` shows and other controllers wait for. Only the operator writes it, once per reconcile.

Every field is optional, because a new job has no status. Ratios are between 0 and 1; the writer rounds them to three places, since kubectl
prints numbers as they are.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from llmtrain_operator.api.phases import Phase
from llmtrain_trainer.config import Strict

Time = Annotated[str, Field(max_length=64, json_schema_extra={"format": "date-time"})]
"""RFC 3339, UTC, such as 2026-01-31T12:00:00Z."""

Text = Annotated[str, Field(max_length=32768)]
Short = Annotated[str, Field(max_length=1024)]
Count = Annotated[int, Field(ge=0, le=10**18)]


class Condition(Strict):
    """One condition, as Kubernetes defines it. A training job never has Ready=False: tools that wait for Ready would wait for days."""

    type: Annotated[str, Field(min_length=1, max_length=316)]
    """Type of the condition in CamelCase, such as Complete."""

    status: Literal["True", "False", "Unknown"]
    """Whether the condition holds now."""

    reason: Annotated[str, Field(max_length=1024)] = ""
    """Why, in one CamelCase word that a program can match."""

    message: Text = ""
    """Why, in a sentence for a person."""

    last_transition_time: Time
    """When `status` last changed."""

    observed_generation: Count | None = None
    """metadata.generation of the manifest that the condition describes."""


class PlanSummary(Strict):
    """The layout, its estimated memory and its estimated speed."""

    engine: Short | None = None
    """Engine that runs the steps; the chosen one where the manifest says auto."""

    engine_reason: Short | None = None
    """Why auto chose this engine; absent where the manifest names the engine."""

    layout: Short | None = None
    """Degrees above 1 in rank order, such as pp4 dp2 tp4."""

    nodes: Count | None = None
    """Pods of a gang, one per node."""

    gpus: Count | None = None
    """GPUs of a gang; 0 on CPU processes."""

    accumulation: Count | None = None
    """Micro-batches per step and replica."""

    parameters: Count | None = None
    """Number of parameters of the model."""

    memory_bytes_per_rank: Count | None = None
    """Estimated peak memory of the rank that needs most."""

    tokens_per_second: float | None = None
    """Estimated speed of all devices together."""

    model: Short | None = None
    """The model's source, or its model_type where the config is inline."""

    advice: Annotated[tuple[Short, ...], Field(max_length=64)] = ()
    """What the plan recommends or has changed, one sentence each."""


Measures = Annotated[dict[Annotated[str, Field(max_length=64)], float], Field(max_length=32)]


class TrainingProgress(Strict):
    """How far training has got, and its speed."""

    step: Count | None = None
    """Optimizer steps done."""

    target_steps: Count | None = None
    """Step at which training is complete."""

    percent: Annotated[int, Field(ge=0, le=100)] | None = None
    """step as a percentage of targetSteps, rounded down, so that 100 means complete."""

    consumed_tokens: Count | None = None
    """Tokens trained on since step 0."""

    loss: float | None = None
    """Loss of the newest step in nats; absent if it is NaN."""

    validation_loss: float | None = None
    """Loss of the newest evaluation in nats."""

    metrics: Measures | None = None
    """What the task measures besides the loss, in the newest step; absent where it measures nothing."""

    validation_metrics: Measures | None = None
    """The same, in the newest evaluation."""

    tokens_per_second: float | None = None
    """Speed over the newest steps, all devices together."""

    tokens_per_second_per_gpu: float | None = None
    """Speed over the newest steps, per device."""

    mfu: float | None = None
    """Model FLOPs utilization, 0 to 1; absent where the device's peak is unknown."""

    eta: Annotated[str, Field(max_length=32)] | None = None
    """Time left at the newest speed, such as 3h12m."""

    last_step_time: Time | None = None
    """When the newest step ended."""


class CheckpointSummary(Strict):
    """The newest checkpoint that was committed and verified. A restart loses at most the steps after it."""

    name: Short
    """Name under the destination."""

    step: Count
    """Optimizer steps done when it was saved."""

    uri: Annotated[str, Field(max_length=2048)]
    """Full address of its prefix."""

    bytes: Count | None = None
    """Size of all its files together."""

    time: Time
    """When COMMIT was written."""


class RecentRestarts(Strict):
    """Counted restarts that happened close together, kept as one entry so that the history stays short."""

    time: Time
    """Time of the first of them."""

    count: Count
    """Number of restarts."""


class RestartCounts(Strict):
    """Restarts so far, and which of them count against the budget."""

    total: Count = 0
    """All restarts of this job, in place and of whole gangs."""

    in_place: Count = 0
    """Restarts of ranks that kept their pods."""

    in_window: Count = 0
    """Restarts that count against resilience.restarts.max now."""

    preemptions: Count = 0
    """Times the gang ended by suspend, preemption or drain; these never count against the budget."""

    streak: Count = 0
    """Failures since training last passed its furthest step; the backoff before the next attempt grows with it."""

    interruptions: Count = 0
    """Consecutive restarts that do not count against the budget, of gangs that lasted less than ten minutes; the backoff grows with it
    too."""

    attempt_in_place: Count = 0
    """Counted restarts in place of the current attempt."""

    by_reason: Annotated[dict[Annotated[str, Field(max_length=1024)], Count], Field(max_length=64)] = {}
    """Restarts by the reason of the failure; InPlace: of ranks that kept their pods."""

    recent: Annotated[tuple[RecentRestarts, ...], Field(max_length=64)] = ()
    """The restarts within the window, by time."""


class PodCounts(Strict):
    """Pods of the current attempt."""

    wanted: Count = 0
    """Pods of a whole gang."""

    created: Count = 0
    """The highest number of pods of this attempt seen at once; below `wanted`, the gang is still being created."""

    scheduled: Count = 0
    """Pods that have a node."""

    running: Count = 0
    """Pods whose container runs."""

    succeeded: Count = 0
    """Pods that ended with exit code 0."""

    failed: Count = 0
    """Pods that ended with another exit code."""


class LastFailure(Strict):
    """The last failure, whether or not the job continued."""

    reason: Short
    """Class of the failure in one CamelCase word, such as RankFailed, OutOfMemory, Hang or NodeLost."""

    message: Text = ""
    """One sentence with the evidence."""

    attempt: Count | None = None
    """Attempt that failed."""

    first_failing_rank: Count | None = None
    """Global rank that failed first."""

    node: Short | None = None
    """Node it ran on."""

    exit_code: int | None = None
    """Exit code of that pod's agent."""

    step: Count | None = None
    """Newest step that was done."""

    time: Time | None = None
    """When the failure was observed."""


class Goodput(Strict):
    """How the job's time was spent. The parts sum to `total_seconds`."""

    ratio: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of the time spent in steps whose result was kept."""

    total_seconds: float = 0.0
    """Time since the job was first observed, without suspended time."""

    suspended_seconds: float = 0.0
    """Time in which the job was suspended."""

    active_seconds: Annotated[float, Field(ge=0)] | None = None
    """The time that counts against activeDeadlineSeconds."""

    by_cause: Annotated[dict[Annotated[str, Field(max_length=64)], float], Field(max_length=32)] = {}
    """Seconds by cause: productive, queued, starting, checkpoint, recompute, restart, hung."""

    gpu_hours: float | None = None
    """GPU-hours held, over all attempts."""

    gpu_hours_by_cause: Annotated[dict[Annotated[str, Field(max_length=64)], float], Field(max_length=32)] = {}
    """GPU-hours held, by cause."""

    high_water_step: Count | None = None
    """Furthest step that any attempt reached. Steps up to it that are done again count as recompute."""

    accounted_until: Time | None = None
    """The end of the accounted time."""


class Artifact(Strict):
    """A result of the job that is kept after it: an export, the report."""

    kind: Literal["full", "adapter", "merged", "report", "tokenizer"]
    """Kind of the artifact."""

    uri: Annotated[str, Field(max_length=2048)]
    """Location of the artifact."""

    digest: Short | None = None
    """sha256 of its manifest, if it has one."""


class Status(Strict):
    """The state that the operator observed last."""

    observed_generation: Count | None = None
    """metadata.generation of the manifest that this status describes."""

    phase: Phase | None = None
    """Phase of the job. Complete and Failed are final."""

    message: Text | None = None
    """One sentence on what the job does now."""

    conditions: Annotated[
        tuple[Condition, ...],
        Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
    ] = ()
    """Planned, Queued, Running, Restarting, Suspended, Complete, Failed; also Stalled (refused or failed), for generic tools such as
    kstatus."""

    attempt: Count | None = None
    """Number of the newest attempt. It fences writes of older attempts."""

    ended_attempt: Count | None = None
    """Newest attempt that is over: its pods are stopped, and none of them is created again."""

    pods: PodCounts | None = None
    """Pods of the newest attempt."""

    start_time: Time | None = None
    """When the first attempt was created."""

    completion_time: Time | None = None
    """When the job became Complete or Failed."""

    plan: PlanSummary | None = None
    """The layout in use."""

    progress: TrainingProgress | None = None
    """How far training has got."""

    checkpoint: CheckpointSummary | None = None
    """Newest verified checkpoint."""

    restarts: RestartCounts | None = None
    """Restarts so far."""

    failure: LastFailure | None = None
    """The last failure."""

    goodput: Goodput | None = None
    """How the job's time was spent."""

    avoided_nodes: Annotated[tuple[Short, ...], Field(max_length=256)] = ()
    """Nodes that failed this job; no pod of it is scheduled on them."""

    notices: Annotated[tuple[Short, ...], Field(max_length=64)] = ()
    """What the agents of the newest attempt dropped, truncated, changed or guessed, one sentence each."""

    artifacts: Annotated[tuple[Artifact, ...], Field(max_length=32)] = ()
    """Exports, adapters, reports."""
