"""What a pod reports: progress rows, node status, verdict. Written by ranks and agent, read by operator and CLI."""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from llmtrain_trainer.config.strict import Strict


class ExitCode(IntEnum):
    """Exit codes of the agent. 16 and 17 are reserved for engines that use them as Megatron does (suspicious result, failed validation)."""

    DONE = 0
    RANK_FAILED = 1
    """A rank failed and the restart budget is spent."""

    CONFIG = 2
    """The configuration or the data cannot be used; a restart will not help."""

    OUT_OF_MEMORY = 12
    """A rank ran out of memory; a restart will not help."""

    DIVERGED = 65
    """Training diverged: loss, gradient norm or weights are not finite. A restart repeats it (EX_DATAERR)."""

    FENCED = 73
    """Another run owns the destination, or a later attempt of this job has written there: this one ended without writing (EX_CANTCREAT)."""

    STORE = 74
    """The checkpoint store cannot be read at start (EX_IOERR)."""

    SAVED = 75
    """Asked to stop, saved a checkpoint, stopped (EX_TEMPFAIL): start again to resume."""

    HANG = 124
    """No step finished in time and the restart budget is spent."""

    STOPPED_UNSAVED = 143
    """Asked to stop and could not save in time."""


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Finite = Annotated[float | None, BeforeValidator(_finite)]
"""A measured number; NaN and infinities become None, which JSON can represent."""


class RankSeconds(Strict):
    """Time that ranks need for a step by their own clocks, without waiting for stages and for the end of the step. Medians over steps."""

    min: float
    """The fastest rank, seconds."""

    median: float
    """The median rank, seconds."""

    max: float
    """The slowest rank, seconds."""


class Progress(Strict):
    """One row of metrics.jsonl: the state after a step."""

    time: float
    """Seconds since the epoch."""

    step: int
    """Optimizer steps completed; the first step is 1."""

    target_steps: int
    """Step at which training is complete."""

    consumed_samples: int
    """Sequences seen since the start of training."""

    consumed_tokens: int
    """Tokens seen since the start of training, padding included."""

    epoch: float | None = None
    """Passes over the training data so far; None if a dataset streams."""

    loss: Finite = None
    """Mean cross-entropy over the target tokens of the global batch, nats; None if it was not finite."""

    grad_norm: Finite = None
    """Norm of the whole model's gradient before clipping; None if it was not finite."""

    learning_rate: float
    """Learning rate of this step, after warm-up and decay."""

    step_seconds: float
    """Wall time of the step."""

    phase_seconds: dict[str, float] | None = None
    """The step's time on rank 0 by phase: data, forward, backward, optimizer, comm (waiting for stages and reductions over ranks), other.
    None if the engine does not measure it."""

    data_seconds: float = 0.0
    """How long rank 0 waited for batches since the previous row."""

    rank_seconds: RankSeconds | None = None
    """How far ranks differ; None if the engine does not measure it."""

    tokens_per_second: float
    """Tokens per second of this step, over all devices."""

    mfu: float | None = None
    """Model FLOPs utilisation, 0 to 1; None if the device's peak is unknown."""

    metrics: dict[str, Finite] = {}
    """What the task's objective measures besides the loss, by name: each the mean over the targets of the global batch."""

    validation_loss: Finite = None
    """Validation loss, if an evaluation ran after this step and its loss was finite."""

    validation_metrics: dict[str, Finite] = {}
    """The same measures over the targets of that evaluation."""

    blocked_seconds: float = 0.0
    """How long a checkpoint blocked training at this step."""

    memory_bytes: int | None = None
    """Largest peak over ranks: allocated memory on a GPU, resident set on a CPU."""


class GpuMemory(Strict):
    """The CUDA allocator of one rank."""

    allocated_bytes: int
    """Peak of allocated memory."""

    reserved_bytes: int
    """Peak of memory reserved from the device."""

    alloc_retries: int
    """How often it had to release cached memory before it could allocate."""

    ooms: int
    """How often it ran out of memory and the rank continued."""


class Heartbeat(Strict):
    """A rank's heartbeat, rewritten in place."""

    rank: int
    """Global rank of the process."""

    pid: int
    """Process id on its node."""

    step: int
    """Optimizer steps done."""

    phase: Literal["start", "load", "data", "step", "evaluate", "save", "export", "done"]
    """What the rank was doing when it wrote this."""

    time: float
    """Seconds since the epoch at which it was written."""

    slowdown: float | None = None
    """Time this rank needs for its part of a step, divided by the median over all ranks; None if the engine does not measure it."""

    gpu_memory: GpuMemory | None = None
    """None on a CPU."""


class CheckpointStatus(Strict):
    """The newest checkpoint that was committed and verified."""

    name: str
    """Name of the checkpoint under its destination."""

    step: int
    """Optimizer steps completed when it was saved."""

    uri: str
    """Full address of the checkpoint's prefix."""

    bytes: int
    """Total size of its files."""

    committed_at: float
    """Seconds since the epoch at which COMMIT was written."""


class Verdict(Strict):
    """Why the agent stopped; the JSON of the termination message."""

    exit_code: int
    """Exit code of the agent, one of ExitCode if the agent chose it."""

    reason: str
    """CamelCase, one word for one cause: Complete, RankFailed, OutOfMemory, Hang, Saved, BadConfig, BadData, Diverged, StoreUnreachable,
    Fenced."""

    message: str
    """One sentence with the evidence."""

    first_failing_rank: int | None = None
    """Global rank that failed first, if one did."""

    node: str | None = None
    """Name of the node it failed on."""

    step: int | None = None
    """Newest completed step."""

    restarts: int = 0
    """Restarts in place before the agent stopped."""

    stored_attempt: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    """With reason Fenced: the attempt named by the destination's newest checkpoint. The next attempt must have a higher number."""

    progress: Progress | None = None
    """Newest row, which /status may no longer have served; from node 0 only."""

    checkpoint: CheckpointStatus | None = None
    """Newest committed checkpoint; from node 0 only."""

    notices: tuple[str, ...] = ()
    """What was dropped, cut, changed or guessed on this node, one sentence each."""


class NodeStatus(Strict):
    """GET /status of an agent."""

    job: str
    """Name of the job that the agent belongs to."""

    attempt: int
    """Number of the attempt that the agent belongs to."""

    node_rank: int
    """Index of the node in its gang, from 0."""

    phase: Literal["preparing", "starting", "training", "restarting", "saving", "exporting", "done", "failed"]
    """What the agent is doing now."""

    restarts: int = 0
    """Restarts in place of this node's ranks in this attempt."""

    last_restart: str | None = None
    """One sentence on the cause of the newest of them; on node 0 only."""

    progress: Progress | None = None
    """Newest row; on node 0 only."""

    heartbeats: tuple[Heartbeat, ...] = ()
    """Newest heartbeat of each local rank."""

    checkpoint: CheckpointStatus | None = None
    """Newest committed checkpoint; on node 0 only."""

    resumed_from_step: int | None = None
    """Step of the checkpoint that the ranks last started from; None if they started from step 0."""

    message: str = ""
    """One sentence on what happens now."""

    notices: tuple[str, ...] = ()
    """What was dropped, cut, changed or guessed on this node, one sentence each."""

    verdict: Verdict | None = None
    """Set when the agent has stopped."""
