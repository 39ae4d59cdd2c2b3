"""Where checkpoints are stored, how often they are saved, and what is exported at the end."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from llmtrain_trainer.config.strict import Duration, Name, PositiveInt, StoreUri, Strict

SAVED_BYTES = 12
"""Of a trained weight in a checkpoint: itself and two moments, in fp32."""


class Cadence(Strict):
    """When a checkpoint is due; with both fields, whichever comes first."""

    steps: PositiveInt | None = None
    """Save after this many steps, and after each multiple of it."""

    interval: Duration | None = None
    """Save when this much time has passed since the previous checkpoint, such as 15m."""


class Checkpoint(Strict):
    """Verified, committed checkpoints in a directory or an object store."""

    destination: StoreUri
    """Prefix that belongs to this job alone: s3://bucket/prefix, file:///absolute/path or pvc://claim/path."""

    secret_name: Name | None = None
    """Secret with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, if needed, AWS_ENDPOINT_URL. Local runs read them from the environment.

    If the secret has LLMTRAIN_CHECKPOINT_KEY (any text), checkpoints are signed with it, and only checkpoints signed with it are loaded.
    """

    every: Cadence = Cadence(interval="15m")
    """How often to save. A checkpoint is always saved at the last step and on SIGTERM."""

    keep: Annotated[int, Field(ge=2, le=10_000)] = 3
    """Committed checkpoints to keep, at least 2. Older ones are deleted only after a newer one was verified."""

    keep_every_steps: PositiveInt | None = None
    """Also keep every checkpoint whose step is a multiple of this; these are never deleted."""

    resume: Literal["latest", "none"] | Annotated[int, Field(ge=0, le=1_000_000_000)] = "latest"
    """latest: the newest verified checkpoint, or step 0 if there is none; a step: that checkpoint, or an error; none: step 0."""


class Output(Strict):
    """What is exported when training is complete."""

    export: Annotated[tuple[Literal["full", "adapter", "merged"], ...], Field(max_length=3)] = ("full",)
    """full: weights in Hugging Face format; adapter: the PEFT adapter alone; merged: the adapter merged into the weights.

    An empty list exports nothing.
    """

    destination: StoreUri | None = None
    """Where exports and the report are stored. Default: export/ and report/ under checkpoint.destination."""

    report: bool = True
    """Write report.html: loss curve, estimates against measurements, checkpoints and restarts."""
