"""Who may admit the pods of a job all or none, by name. What each wants to see is in kube/gangs/."""

from __future__ import annotations

from typing import Literal

GangScheduler = Literal["kueue", "volcano", "coscheduling"]
