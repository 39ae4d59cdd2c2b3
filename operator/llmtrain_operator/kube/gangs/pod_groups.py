"""The state of a gang from its PodGroup, for Volcano and for scheduler-plugins."""

from __future__ import annotations

from llmtrain_operator.life.from_objects import condition_of, mapping_of, text_in
from llmtrain_operator.life.observed import Admission


def admission_in(group: object) -> Admission:
    """Admission by phase; an Unschedulable condition gives the reason if it is not admitted."""
    status = mapping_of(group, "status")
    phase = text_in(status, "phase") or "Pending"
    waits = condition_of(status, "Unschedulable")
    admitted = phase in ("Running", "Scheduled", "Scheduling", "Completed", "Finished", "Inqueue")
    return Admission(admitted=admitted, message=text_in(waits, "message") or "" if waits.get("status") == "True" else "")
