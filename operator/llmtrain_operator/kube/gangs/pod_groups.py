"""What a PodGroup says of its gang: those of Volcano and of scheduler-plugins are read alike."""

from __future__ import annotations

from llmtrain_operator.life.from_objects import condition_of, mapping_of, text_in
from llmtrain_operator.life.observed import Admission


def admission_in(group: object) -> Admission:
    """By phase; an Unschedulable condition says why not."""
    status = mapping_of(group, "status")
    phase = text_in(status, "phase") or "Pending"
    waits = condition_of(status, "Unschedulable")
    admitted = phase in ("Running", "Scheduled", "Scheduling", "Completed", "Finished", "Inqueue")
    return Admission(admitted=admitted, message=text_in(waits, "message") or "" if waits.get("status") == "True" else "")
