"""The phases of a job."""

from __future__ import annotations

from typing import Literal

Phase = Literal["Pending", "Queued", "Starting", "Running", "Restarting", "Suspending", "Suspended", "Complete", "Failed"]
FINAL: tuple[Phase, ...] = ("Complete", "Failed")
"""Phases that are never left."""
