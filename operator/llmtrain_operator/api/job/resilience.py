"""What happens when something breaks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from llmtrain_trainer.config import Duration, Strict


class Restarts(Strict):
    """A budget of restarts that refills with time."""

    max: Annotated[int, Field(ge=0, le=10_000)] = 20
    """Restarts allowed within the window; suspend, preemption and drain are not counted."""

    window: Duration = "24h"
    """Only restarts within this time count. A day: a node that fails once a week never uses up the budget."""


class Resilience(Strict):
    """Restarts, hangs, losses that are not a number, bad nodes."""

    restarts: Restarts = Restarts()
    """Budget of restarts, of ranks in place and of whole gangs together."""

    hang: Literal["auto", "none"] | Duration = "auto"
    """No step for this long is a hang. auto: ten times the median step, at least five minutes. none: never.

    The word is not off, because YAML reads that as a boolean.
    """

    non_finite_steps: Annotated[int, Field(ge=1, le=1000)] = 3
    """End the job after this many steps in a row whose loss or gradient norm is NaN or infinite. None of them is saved or exported."""

    avoid_nodes: bool = True
    """Keep away from nodes that failed this job."""
