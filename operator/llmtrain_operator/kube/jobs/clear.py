"""Deletes ConfigMaps and PodGroups of attempts that are over.

Service and NetworkPolicy belong to the job and stay as long as it does; pods are deleted by the decision.
"""

from __future__ import annotations

import asyncio
import logging

from llmtrain_operator.kube.api.client import ApiError, Client, Object, path_of
from llmtrain_operator.life.from_objects import LABEL_ATTEMPT, LABEL_JOB
from llmtrain_operator.life.observed import Job

log = logging.getLogger(__name__)

Kind = tuple[str, str]
"""apiVersion and kind."""


async def clear_attempts(client: Client, job: Job, last: int, kinds: tuple[Kind, ...]) -> bool:
    """Delete the objects of attempts up to `last`; True if none are left. A refusal is only logged, so that no job is blocked."""
    try:
        for version, kind in kinds:
            found = await client.list(path_of(version, kind, job.namespace), labelSelector=f"{LABEL_JOB}={job.name}")
            over = [one["metadata"] for one in found if _controlled_by(one, job.uid) and _attempt(one) <= last]
            await asyncio.gather(*(client.delete(path_of(version, kind, job.namespace, meta["name"]), meta["uid"]) for meta in over))
    except ApiError as error:
        log.warning("%s: objects of attempts that are over stay: %s", job.key, error)
        return False
    return True


def _controlled_by(found: Object, uid: str) -> bool:
    return any(owner.get("uid") == uid and owner.get("controller") for owner in found["metadata"].get("ownerReferences") or [])


def _attempt(found: Object) -> float:
    """The number in its label; infinity if there is none, so that the object is kept."""
    label = (found["metadata"].get("labels") or {}).get(LABEL_ATTEMPT, "")
    return int(label) if label.isascii() and label.isdigit() else float("inf")
