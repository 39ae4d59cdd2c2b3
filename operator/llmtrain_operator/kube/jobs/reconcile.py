"""The whole loop on one screen: observe a job, decide, write its status, act.

The status is written before the action, so that the result of an action is never mistaken for an event from outside. An error ends the
reconcile at once; the next one starts from the state of the cluster.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from llmtrain_operator.api.job import Status
from llmtrain_operator.api.phases import FINAL
from llmtrain_operator.kube.api.client import ApiError, Client, path_to
from llmtrain_operator.kube.api.events import Recorder
from llmtrain_operator.kube.gangs.gang_objects import group_version
from llmtrain_operator.kube.jobs.apply import NotCreatedError, create_gang, delete_pods, write_status
from llmtrain_operator.kube.jobs.checkpoint_owners import DestinationOwners
from llmtrain_operator.kube.jobs.clear import clear_attempts
from llmtrain_operator.kube.jobs.placement_order import Turns
from llmtrain_operator.kube.metrics.operator import OperatorMetrics
from llmtrain_operator.kube.names import JobKey
from llmtrain_operator.kube.observe.observe import Observation, Observer
from llmtrain_operator.kube.render.render import render
from llmtrain_operator.kube.render_settings import RenderSettings
from llmtrain_operator.life.attempt import AttemptView
from llmtrain_operator.life.decide import decide
from llmtrain_operator.life.decision import Action, Decision
from llmtrain_operator.life.observed import NotCreated, Observed
from llmtrain_operator.life.policies.restart_budget import left as restarts_left
from llmtrain_operator.life.policies.restart_budget import said_in_place
from llmtrain_operator.life.status import as_dict, project, worth_writing

log = logging.getLogger(__name__)

RESYNC = 600.0
"""Seconds after which a job is observed even without an event."""

DORMANT = 6 * 3600.0
"""The same for a job that has ended: nothing happens to it, and there may be thousands."""

ACTED = 15.0
"""Seconds after pods were created or deleted: events arrive long before, unless a watch was down just then."""

PLACED = 0.1
"""Seconds after pods were created of a gang for which others wait: on an idle cluster they have their nodes by then."""

PRESSED = 1.0
"""Seconds while a gang has its turn and may have to give way."""

FIRST_RETRY, LONGEST_RETRY = 5.0, 300.0
"""Seconds until objects that the API server refused are created again: first and longest delay."""

TAKEN_RETRY = 60.0
"""Longest delay if somebody else has the name: no event reports that they deleted it."""

_WARNINGS = ("Failed", "Restarting")
_REFUSED = (400, 403, 404, 422)
"""Codes with which the API server refuses an object."""

_BUSY = (0, 429, 503, 504)
"""Codes that are not about the object: the server did not answer, or is overloaded."""


class Reconciler:
    """Reconciles jobs. A new instance finds all its state in the cluster, except the time of the last status write and refusals of pods."""

    def __init__(
        self,
        client: Client,
        observer: Observer,
        recorder: Recorder,
        metrics: OperatorMetrics,
        settings: RenderSettings,
        turns: Turns,
        destinations: DestinationOwners,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._observer, self._recorder, self._metrics = client, observer, recorder, metrics
        self._settings, self._turns, self._destinations, self._clock = settings, turns, destinations, clock
        self._started, self._written = clock(), dict[JobKey, float]()
        self._not_created: dict[JobKey, tuple[int, NotCreated]] = {}  # with the job's generation then
        self._cleared: dict[JobKey, dict[str, int]] = {}

    async def take_over(self, namespaces: Sequence[str]) -> None:
        """Read all jobs: whose turn it is, and who writes where. Raises ApiError."""
        async for observed in self._observer.all(namespaces):
            key = observed.job.namespace, observed.job.name
            try:
                self._turns.note(key, observed)
                self._destinations.note(key, observed)
            except Exception:  # a bad job must not affect others
                log.exception("%s/%s is skipped at the start", *key)

    async def reconcile(self, key: JobKey) -> float | None:
        """Reconcile one job; returns the seconds until the next reconcile, None if the job is gone. Raises ApiError."""
        observation = await self._observer.observe(*key)
        if observation is None:
            self._forget(key)
            return None
        observed = self._among_others(key, observation.observed)
        decision = decide(observed)
        self._turns.note(key, observed, decision)  # nothing is awaited between reading the turns and taking one
        self._destinations.note(key, observed, decision)
        if decision.action is Action.LEAVE_ALONE:
            return again_in(observed, decision)
        written = await self._record(key, observation, observed, decision)
        said = [self._say(key, observation, observed, decision, written)] if written else []
        refused, *_ = await asyncio.gather(self._act(key, observation, observed, decision), *said)
        if refused is not None:
            return await self._not_taken(key, observation, observed, refused)
        if decision.action is Action.CREATE and self._turns.awaited(key):
            return PLACED
        again = again_in(observed, decision)
        return min(PRESSED, again) if self._turns.pressed(key, observed) else again

    def _among_others(self, key: JobKey, seen: Observed) -> Observed:
        """The observation with the other jobs, and with objects of this job that the API server refused."""
        generation, refused = self._not_created.get(key, (0, None))
        if generation != seen.job.generation:  # another manifest may be accepted
            refused = None
        place, rivals, writer = self._turns.place(key, seen), self._turns.others(key), self._destinations.writer(key, seen)
        contested = self._destinations.contested(key, seen)
        return replace(seen, rivals=rivals, place=place, writer=writer, contested=contested, not_created=refused)

    async def _not_taken(self, key: JobKey, observation: Observation, observed: Observed, error: NotCreatedError) -> float:
        """Write the refusal to the status, and give the turn to the next gang. Raises ApiError if the API server was only overloaded."""
        if not error.pods:
            self._turns.note(key, observed)
        if error.code in _BUSY:
            raise ApiError(error.code, "NotCreated", error.message)
        before = observed.not_created
        tries = before.tries + 1 if before else 1
        longest = TAKEN_RETRY if error.taken else LONGEST_RETRY
        until = observed.now + min(longest, FIRST_RETRY * 2.0 ** min(tries - 1, 10))
        final = error.taken or error.code in _REFUSED
        refused = NotCreated(message=error.message, until=until, final=final, taken=error.taken, tries=tries)
        self._not_created[key] = observed.job.generation, refused
        seen = replace(observed, not_created=refused)
        said = decide(seen)
        if written := await self._record(key, observation, seen, said):
            await self._say(key, observation, seen, said, written)
        return PLACED if error.pods else again_in(seen, said)

    async def _record(self, key: JobKey, observation: Observation, observed: Observed, decision: Decision) -> Status | None:
        """Write the status if it is worth a write; returns it if it was written."""
        old, new = observed.job.status, project(observed, decision)
        self._metrics.jobs.note(key, observed.job.created, old, new)
        if not worth_writing(old, new, self._clock() - self._written.get(key, self._started)):
            return None
        await write_status(self._client, observation.manifest, as_dict(new))
        self._written[key] = self._clock()
        return new

    async def _say(self, key: JobKey, observation: Observation, observed: Observed, decision: Decision, written: Status) -> None:
        """Log the message, and post an event if the phase changed or something is wrong; a start alone passes through many messages."""
        old = observed.job.status
        if again := said_in_place(AttemptView(observed)):
            log.info("%s/%s: %s", *key, again)
            await self._recorder.post(observation.manifest, "Warning", "RestartInPlace", again)
        for notice in written.notices:
            if notice not in old.notices:
                await self._recorder.post(observation.manifest, "Warning", "Notice", notice)
        if (old.phase, old.message) == (decision.phase, decision.message):
            return
        warns = decision.phase in _WARNINGS or (observed.job.refusal or observed.not_created) is not None
        log.info("%s/%s: %s, %s: %s", *key, decision.phase, decision.reason, decision.message)
        if warns or decision.phase != old.phase:
            await self._recorder.post(observation.manifest, "Warning" if warns else "Normal", decision.reason, decision.message)

    async def _act(self, key: JobKey, observation: Observation, observed: Observed, decision: Decision) -> NotCreatedError | None:
        """Carry out the decision's action. Returns the reason if objects were not created."""
        job, plan = observation.planned.job, observed.plan
        if decision.action is not Action.NOTHING:
            self._metrics.actions.labels(decision.action.name.lower()).inc()
        if decision.action is Action.CREATE and job is not None and plan is not None:
            avoid = observed.job.status.avoided_nodes
            left = restarts_left(AttemptView(observed))
            made = render(
                job,
                plan,
                decision.attempt,
                self._settings,
                uid=observed.job.uid,
                gang=observed.gang,
                avoid=avoid,
                restarts_left=left,
                secret=secrets.token_hex(32),
            )
            fresh = decision.attempt > AttemptView(observed).number or not AttemptView(observed).pods
            try:
                await create_gang(self._client, [*made.shared, *made.own, *(made.pods[index] for index in decision.create)], fresh=fresh)
            except NotCreatedError as error:
                return error
            self._not_created.pop(key, None)
        if decision.action is Action.DELETE_JOB:
            await self._client.delete(path_to(observation.manifest), observed.job.uid)
        if decision.held is not None:
            await self._recorder.post(observation.manifest, "Normal", "SidecarRunsOn", decision.held)
        await delete_pods(self._client, observed.job.namespace, decision.delete)
        await self._clear(key, observed, decision.clears)
        return None

    async def _clear(self, key: JobKey, observed: Observed, last: int) -> None:
        """Delete the objects of attempts that are over, once for each of them."""
        uid = observed.job.uid
        if last <= self._cleared.get(key, {}).get(uid, 0):
            return
        version = group_version(observed.gang, self._settings)
        kinds = (("v1", "ConfigMap"), *([(version, "PodGroup")] if version else []))
        if await clear_attempts(self._client, observed.job, last, kinds):
            self._cleared[key] = {uid: last}

    def _forget(self, key: JobKey) -> None:
        """Forget a job that is gone."""
        self._turns.forget(key)
        self._destinations.forget(key)
        self._observer.forget(key)
        self._metrics.jobs.forget(key)
        self._written.pop(key, None)
        self._not_created.pop(key, None)
        self._cleared.pop(key, None)


def again_in(observed: Observed, decision: Decision) -> float:
    """Seconds until a job is reconciled again without an event."""
    if decision.again_in is not None:
        return min(decision.again_in, RESYNC)
    if decision.action is not Action.NOTHING:
        return ACTED
    if decision.phase not in FINAL:
        return RESYNC
    lives = observed.job.spec.ttl_seconds_after_finished if observed.job.spec else None
    return DORMANT if lives is None else min(lives, DORMANT)
