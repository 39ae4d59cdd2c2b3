"""What happens when something breaks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from llmtrain_trainer.config import Duration, Strict


class Restarts(Strict):
    """A budget of restarts that refills with time."""

    max: Annotated[int, Field(ge=0, le=10_000)] = 20
    """Restarts allowed within the window; restarts after suspend, preemption and drain are not counted."""

    window: Duration = "24h"
    """Only restarts within this time count. With the default, a node that fails once a week never uses up the budget."""


class Resilience(Strict):
    """Restarts, hangs, NaN losses, bad nodes."""

    restarts: Restarts = Restarts()
    """Budget of restarts. Restarts of ranks in place and of whole gangs count together."""

    hang: Literal["auto", "none"] | Duration = "auto"
    """No step for this long is a hang. auto: ten times the median step, at least five minutes. none: never.

    The value is called none because YAML reads off as a boolean.
    """

    non_finite_steps: Annotated[int, Field(ge=1, le=1000)] = 3
    """End the job after this many steps in a row whose loss or gradient norm is NaN or infinite. None of them is saved or exported."""

    avoid_nodes: bool = True
    """Schedule no pod of this job on nodes that failed it."""
