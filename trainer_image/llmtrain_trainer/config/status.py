"""What a pod says of itself: progress rows, node status, verdict. Written by ranks and agent, read by operator and CLI."""

from __future__ import annotations

from enum import IntEnum
from typing import Literal

from llmtrain_trainer.config.strict import Strict


class ExitCode(IntEnum):
    """Exit codes of the agent. 16 and 17 are left to engines that use them as Megatron does (suspicious result, failed validation)."""

    DONE = 0
    RANK_FAILED = 1
    """A rank failed and the restart budget is spent."""

    CONFIG = 2
    """The configuration or the data cannot be used; starting again will not help."""

    OUT_OF_MEMORY = 12
    """A rank ran out of memory; starting again will not help."""

    STORE = 74
    """The checkpoint store cannot be read at start (EX_IOERR)."""

    SAVED = 75
    """Told to stop, saved a checkpoint, stopped (EX_TEMPFAIL): start again to go on."""

    HANG = 124
    """No step ended in time and the restart budget is spent."""

    STOPPED_UNSAVED = 143
    """Told to stop and could not save in time."""


class Progress(Strict):
    """One row of metrics.jsonl: the state after a step."""

    time: float
    """Seconds since the epoch."""

    step: int
    """Optimizer steps done; the first step is 1."""

    target_steps: int
    consumed_samples: int
    consumed_tokens: int
    """Tokens seen since the start of training, padding included."""

    loss: float
    """Mean cross-entropy over the target tokens of the global batch, nats."""

    grad_norm: float
    """Norm of the whole model's gradient before clipping."""

    learning_rate: float
    step_seconds: float
    tokens_per_second: float
    """Over all devices, for this step."""

    mfu: float | None = None
    """Model FLOP utilisation, 0 to 1; None where the device's peak is unknown."""

    validation_loss: float | None = None
    """Where an evaluation ran after this step."""

    blocked_seconds: float = 0.0
    """How long a checkpoint held up training at this step."""

    memory_bytes: int | None = None
    """Largest peak over ranks: of the allocator on a GPU, resident set on a CPU."""


class Heartbeat(Strict):
    """A rank's sign of life, rewritten in place."""

    rank: int
    pid: int
    step: int
    phase: Literal["start", "load", "data", "step", "evaluate", "save", "export", "done"]
    time: float


class CheckpointStatus(Strict):
    """The newest checkpoint that was committed and verified."""

    name: str
    step: int
    uri: str
    bytes: int
    committed_at: float


class Verdict(Strict):
    """Why the agent stopped; the JSON of the termination message."""

    exit_code: int
    reason: str
    """CamelCase, one word for one cause: Complete, RankFailed, OutOfMemory, Hang, Saved, BadConfig, BadData, StoreUnreachable."""

    message: str
    """One sentence with the evidence."""

    first_failing_rank: int | None = None
    node: str | None = None
    step: int | None = None
    restarts: int = 0


class NodeStatus(Strict):
    """GET /status of an agent."""

    job: str
    attempt: int
    node_rank: int
    phase: Literal["preparing", "starting", "training", "restarting", "saving", "exporting", "done", "failed"]
    restarts: int = 0
    """Restarts of this node's ranks in place, in this attempt."""

    progress: Progress | None = None
    """Newest row; on node 0 only."""

    heartbeats: tuple[Heartbeat, ...] = ()
    checkpoint: CheckpointStatus | None = None
    resumed_from_step: int | None = None
    message: str = ""
    """One sentence on what happens now."""

    verdict: Verdict | None = None
