"""Where training is kept, how often, and what comes out at the end."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from llmtrain_trainer.config.strict import Duration, Name, PositiveInt, StoreUri, Strict


class Cadence(Strict):
    """When a checkpoint is due; with both fields, whichever comes first."""

    steps: PositiveInt | None = None
    """After every this many steps."""

    interval: Duration | None = None
    """When this much time has passed since the last one, such as 15m."""


class Checkpoint(Strict):
    """Verified, committed checkpoints in a store of files or objects."""

    destination: StoreUri
    """Prefix that belongs to this job alone: s3://bucket/prefix, file:///absolute/path or pvc://claim/path."""

    secret_name: Name | None = None
    """Secret with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, if needed, AWS_ENDPOINT_URL. On a laptop the environment gives them.

    With LLMTRAIN_CHECKPOINT_KEY in it, any text, checkpoints are signed, and none is loaded that is not signed with this key.
    """

    every: Cadence = Cadence(interval="15m")
    """How often to save. The last step and a SIGTERM are always saved."""

    keep: Annotated[int, Field(ge=2, le=10_000)] = 3
    """Committed checkpoints to keep. Older ones go only after a newer one was verified; at least 2."""

    keep_every_steps: PositiveInt | None = None
    """Also keep for ever each checkpoint whose step is a multiple of this."""

    resume: Literal["latest", "none"] | Annotated[int, Field(ge=0, le=1_000_000_000)] = "latest"
    """latest: the newest verified checkpoint, else the start; a step: exactly that one or an error; none: the start."""


class Output(Strict):
    """What is written when training is complete."""

    export: Annotated[tuple[Literal["full", "adapter", "merged"], ...], Field(max_length=3)] = ("full",)
    """full: weights in Hugging Face format; adapter: the PEFT adapter alone; merged: adapter folded into the weights.

    An empty list exports nothing.
    """

    destination: StoreUri | None = None
    """Where exports and the report go. Default: export/ and report/ under checkpoint.destination."""

    report: bool = True
    """Write report.html with loss curve, plan against measured, checkpoints and restarts."""
