"""The gang schedulers, in the order in which `gang: auto` tries them."""

from __future__ import annotations

from collections.abc import Mapping

from llmtrain_operator.kube.gangs.kueue import Kueue
from llmtrain_operator.kube.gangs.scheduler import GangScheduler
from llmtrain_operator.kube.gangs.scheduler_plugins import Coscheduling
from llmtrain_operator.kube.gangs.volcano import Volcano

_IN_ORDER: tuple[GangScheduler, ...] = (Kueue(), Volcano(), Coscheduling())
SCHEDULERS: Mapping[str, GangScheduler] = {scheduler.kind: scheduler for scheduler in _IN_ORDER}
"""Gang schedulers by their name in spec.scheduling.gang."""
