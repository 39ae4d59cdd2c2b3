"""The shape of .status: what `kubectl get ltj` shows and other controllers wait for. The operator alone writes it, once a reconcile.

Every field is optional, because a job has no status before it is first seen. Shares are 0 to 1, rounded to three places by the writer,
since kubectl prints numbers as they are.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from llmtrain_trainer.config import Strict

Phase = Literal["Pending", "Queued", "Starting", "Running", "Restarting", "Suspending", "Suspended", "Complete", "Failed"]
Time = Annotated[str, Field(max_length=64, json_schema_extra={"format": "date-time"})]
"""RFC 3339, UTC, such as 2026-01-31T12:00:00Z."""

Text = Annotated[str, Field(max_length=32768)]
Short = Annotated[str, Field(max_length=1024)]
Count = Annotated[int, Field(ge=0, le=10**18)]


class Condition(Strict):
    """One condition, as Kubernetes defines it. Ready=False is never said while training: whoever waits for it would wait for days."""

    type: Annotated[str, Field(min_length=1, max_length=316)]
    """What is said, in CamelCase, such as Complete."""

    status: Literal["True", "False", "Unknown"]
    """Whether it holds now."""

    reason: Annotated[str, Field(max_length=1024)] = ""
    """Why, in one CamelCase word that a program can match."""

    message: Text = ""
    """Why, in a sentence for a person."""

    last_transition_time: Time
    """When `status` last changed."""

    observed_generation: Count | None = None
    """metadata.generation that this was concluded from."""


class PlanSummary(Strict):
    """The layout and what is expected of it, in numbers that fit a table."""

    engine: Short | None = None
    """What runs the steps; resolved where the manifest says auto."""

    engine_reason: Short | None = None
    """Why auto picked it; absent where the manifest names the engine."""

    layout: Short | None = None
    """Degrees above 1 in rank order, such as pp4 dp2 tp4."""

    nodes: Count | None = None
    """Pods of a gang, one a node."""

    gpus: Count | None = None
    """GPUs of a gang; 0 on CPU processes."""

    accumulation: Count | None = None
    """Micro-batches a step, per replica."""

    parameters: Count | None = None
    """Weights of the model."""

    memory_bytes_per_rank: Count | None = None
    """Expected peak of the fullest rank."""

    tokens_per_second: float | None = None
    """Expected speed, all devices together."""

    model: Short | None = None
    """The model's source, or its type where the shape is given inline."""

    advice: Annotated[tuple[Short, ...], Field(max_length=64)] = ()
    """What the plan would do otherwise, or changed, one sentence each."""


Measures = Annotated[dict[Annotated[str, Field(max_length=64)], float], Field(max_length=32)]


class TrainingProgress(Strict):
    """How far training is and how fast it goes."""

    step: Count | None = None
    """Optimizer steps done."""

    target_steps: Count | None = None
    """Step at which training is complete."""

    percent: Annotated[int, Field(ge=0, le=100)] | None = None
    """step of targetSteps, rounded down, so that 100 means complete."""

    consumed_tokens: Count | None = None
    """Tokens seen since the start of training."""

    loss: float | None = None
    """Loss of the newest step in nats; absent where it is not a number."""

    validation_loss: float | None = None
    """Loss of the newest evaluation, nats."""

    metrics: Measures | None = None
    """What the task measures besides the loss, in the newest step; absent where it measures nothing."""

    validation_metrics: Measures | None = None
    """The same, in the newest evaluation."""

    tokens_per_second: float | None = None
    """Speed of the newest steps, all devices together."""

    tokens_per_second_per_gpu: float | None = None
    """The same for one device."""

    mfu: float | None = None
    """Model FLOP utilisation, 0 to 1; absent where the device's peak is unknown."""

    eta: Annotated[str, Field(max_length=32)] | None = None
    """Time left at the newest speed, such as 3h12m."""

    last_step_time: Time | None = None
    """When the newest step ended."""


class CheckpointSummary(Strict):
    """The newest checkpoint that was committed and verified: what a restart would lose is newer than this."""

    name: Short
    """Name under the destination."""

    step: Count
    """Optimizer steps it holds."""

    uri: Annotated[str, Field(max_length=2048)]
    """Full address of its prefix."""

    bytes: Count | None = None
    """Size of all its files together."""

    time: Time
    """When COMMIT was written."""


class RecentRestarts(Strict):
    """Charged restarts that happened close together, so that a long history stays short."""

    time: Time
    """When the first of them was."""

    count: Count
    """How many there were."""


class RestartCounts(Strict):
    """What was started again, and what of it counts."""

    total: Count = 0
    """All restarts of this job, in place and of whole gangs."""

    in_place: Count = 0
    """Restarts of ranks that kept their pods."""

    in_window: Count = 0
    """Restarts that count against resilience.restarts.max now."""

    preemptions: Count = 0
    """Times the gang was taken away by suspend, preemption or drain; never counted against the budget."""

    streak: Count = 0
    """Failures since training last got further than before; the wait before the next start grows with it."""

    interruptions: Count = 0
    """Restarts in a row that are not counted against the budget, of gangs that did not last ten minutes; the wait grows with it too."""

    attempt_in_place: Count = 0
    """Restarts in place that were counted of the current attempt."""

    recent: Annotated[tuple[RecentRestarts, ...], Field(max_length=64)] = ()
    """The restarts that count now, by time."""


class PodCounts(Strict):
    """Pods of the current attempt."""

    wanted: Count = 0
    """Pods of a whole gang."""

    created: Count = 0
    """Most pods of this attempt that were seen at once; below `wanted`, the gang is still being created."""

    scheduled: Count = 0
    """Pods that have a node."""

    running: Count = 0
    """Pods whose container runs."""

    succeeded: Count = 0
    """Pods that ended in order."""

    failed: Count = 0
    """Pods that ended otherwise."""


class Failure(Strict):
    """The last thing that broke, whether or not the job went on."""

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
    """When it was seen."""


class Goodput(Strict):
    """Where the time went. The parts add up to `total_seconds`."""

    ratio: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of the time in steps whose result was kept."""

    total_seconds: float = 0.0
    """Time since the job was first seen, suspended time left out."""

    suspended_seconds: float = 0.0
    """Time in which nothing was wanted of it."""

    active_seconds: Annotated[float, Field(ge=0)] | None = None
    """What activeDeadlineSeconds counts."""

    by_cause: Annotated[dict[Annotated[str, Field(max_length=64)], float], Field(max_length=32)] = {}
    """Seconds by cause: productive, queued, starting, checkpoint, recompute, restart, hung."""

    gpu_hours: float | None = None
    """GPU-hours held, over all attempts."""

    gpu_hours_by_cause: Annotated[dict[Annotated[str, Field(max_length=64)], float], Field(max_length=32)] = {}
    """The same by cause."""

    high_water_step: Count | None = None
    """Furthest step that any attempt reached: a step up to it that is done again is recomputed."""

    accounted_until: Time | None = None
    """The end of the time that is accounted for."""


class Artifact(Strict):
    """Something the job made that outlives it."""

    kind: Literal["full", "adapter", "merged", "report", "tokenizer"]
    """What it is."""

    uri: Annotated[str, Field(max_length=2048)]
    """Where it is."""

    digest: Short | None = None
    """sha256 of its manifest, where it has one."""


class Status(Strict):
    """What the operator saw last."""

    observed_generation: Count | None = None
    """metadata.generation that this status was concluded from."""

    phase: Phase | None = None
    """Where the job is in its life. Complete and Failed are final."""

    message: Text | None = None
    """One sentence on what happens now."""

    conditions: Annotated[
        tuple[Condition, ...],
        Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
    ] = ()
    """Planned, Queued, Running, Restarting, Suspended, Complete, Failed; Stalled for tools that know no job: refused or failed."""

    attempt: Count | None = None
    """Number of the newest gang. It fences what an older gang still writes."""

    ended_attempt: Count | None = None
    """Newest gang that is over: its pods are stopped, and none of them is created again."""

    pods: PodCounts | None = None
    """Pods of the newest gang."""

    start_time: Time | None = None
    """When the first gang was created."""

    completion_time: Time | None = None
    """When the job became Complete or Failed."""

    plan: PlanSummary | None = None
    """The layout in use."""

    progress: TrainingProgress | None = None
    """How far training is."""

    checkpoint: CheckpointSummary | None = None
    """Newest verified checkpoint."""

    restarts: RestartCounts | None = None
    """What was started again."""

    failure: Failure | None = None
    """The last thing that broke."""

    goodput: Goodput | None = None
    """Where the time went."""

    avoided_nodes: Annotated[tuple[Short, ...], Field(max_length=256)] = ()
    """Nodes that failed this job and are kept away from."""

    notices: Annotated[tuple[Short, ...], Field(max_length=64)] = ()
    """What the agents of the newest attempt dropped, cut, changed or guessed, one sentence each."""

    artifacts: Annotated[tuple[Artifact, ...], Field(max_length=32)] = ()
    """Exports, adapters, reports."""
