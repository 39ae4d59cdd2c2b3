"""What the pods of a job do by themselves: train while all of a gang run, end together, and tell whoever asks how far they are."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
from tests.operator.lab.kubelets import DONE, LOST, SAVED, Ends, Exit, Kubelets
from tests.operator.lab.server import ApiServer

from llmtrain_operator.kube.api.client import Object
from llmtrain_operator.kube.names import JobKey
from llmtrain_operator.life.from_objects import CONTAINER, LABEL_ATTEMPT, LABEL_INDEX, LABEL_JOB
from llmtrain_trainer.config import ExitCode

RENDEZVOUS_SECONDS = 600.0
"""How long an agent waits for the others, as the trainer's agent/node.py has it."""


class Trainers:
    """`ends` says of a running pod how its trainer ends now, before what every agent does by itself. With `silent` no agent is heard."""

    def __init__(self, server: ApiServer, kubelets: Kubelets, ends: Ends) -> None:
        self._server, self._kubelets, self.ends = server, kubelets, ends
        self.silent = False
        self.unreachable: set[int] = set()
        """Indexes of pods whose agents alone are not heard."""

        self.step_seconds = 1.0
        """0: no step is ever done."""

        self._trained: set[str] = set()
        """uids of pods of which node 0 did a step."""

        self.steps: dict[JobKey, float] = {}
        """Steps done of each job; every one of them is stored."""

    def step(self, seconds: float) -> None:
        """Training goes on in every gang that is whole; then pods begin and end."""
        for pod in self._server.find("Pod"):
            if label(pod, LABEL_INDEX) == "0" and self.step_seconds and self._kubelets.runs(pod) and self.whole(pod):
                self._trained.add(pod["metadata"]["uid"])
                self.steps[key_of(pod)] = self.steps.get(key_of(pod), 0.0) + seconds / self.step_seconds
        self._kubelets.step(self._end)

    def gang(self, pod: Object) -> list[Object]:
        """This pod and its peers of the same attempt, as far as they are there."""
        mine = key_of(pod), label(pod, LABEL_ATTEMPT)
        return [one for one in self._server.find("Pod") if (key_of(one), label(one, LABEL_ATTEMPT)) == mine]

    def whole(self, pod: Object) -> bool:
        """Whether the trainers of all pods of this one's gang run."""
        return sum(map(self._kubelets.runs, self.gang(pod))) == self._size(pod)

    def answer(self, pod: Object) -> Object | None:
        """What a pod's agent answers to GET /status; None: nothing, as where a policy or a broken network keeps the operator away."""
        index = int(label(pod, LABEL_INDEX))
        if self.silent or index in self.unreachable or not self._kubelets.runs(pod):
            return None
        whole, step = self.whole(pod), int(self.steps.get(key_of(pod), 0))
        told = {"job": label(pod, LABEL_JOB), "attempt": int(label(pod, LABEL_ATTEMPT)), "nodeRank": index}
        told |= {"phase": "training" if whole else "starting"}
        return told | ({"progress": self._row(pod, step)} if whole and step and index == 0 else {})

    def _end(self, pod: Object) -> Exit | None:
        """How it ends; what node 0 leaves tells of progress."""
        how, step = self._ended(pod), int(self.steps.get(key_of(pod), 0))
        if how is None or how.verdict is None or pod["metadata"]["uid"] not in self._trained or not step:
            return how
        return replace(how, verdict={"step": step, "progress": self._row(pod, step)} | how.verdict)

    def _ended(self, pod: Object) -> Exit | None:
        """What the test says; else an agent ends with its gang, and does not wait for the others for ever."""
        if (told := self.ends(pod)) is not None or not label(pod, LABEL_JOB):
            return told
        if self.steps.get(key_of(pod), 0) >= self._target(pod):
            return DONE
        codes = [code for one in self.gang(pod) if (code := _exit_code(one)) is not None]
        if ExitCode.SAVED in codes:
            return SAVED
        alone = not self.whole(pod) and self._kubelets.age(pod) > RENDEZVOUS_SECONDS + 15
        return LOST if alone or any(codes) else None

    def _row(self, pod: Object, step: int) -> Object:
        counts = {"time": self._kubelets.wall(), "step": step, "targetSteps": self._target(pod)}
        counts |= {"consumedSamples": step * 8, "consumedTokens": step * 512}
        return counts | {"loss": 2.0, "gradNorm": 1.0, "learningRate": 1e-3, "stepSeconds": self.step_seconds, "tokensPerSecond": 512.0}

    def _target(self, pod: Object) -> int:
        return int(self._spec(pod).get("training", {}).get("maxSteps", 1_000_000))

    def _size(self, pod: Object) -> int:
        return int(self._spec(pod).get("resources", {}).get("nodes", 0))

    def _spec(self, pod: Object) -> Object:
        jobs = [job for job in self._server.find("LLMTrainJob") if (job["metadata"]["namespace"], job["metadata"]["name"]) == key_of(pod)]
        return dict(jobs[0]["spec"]) if jobs else {}


class Http:
    """As aiohttp's session, to the agents of the lab. Their address is the path of their pod."""

    def __init__(self, server: ApiServer, trainers: Trainers) -> None:
        self._server, self._trainers = server, trainers

    @asynccontextmanager
    async def get(self, url: str, **_: Any) -> AsyncIterator[Answer]:
        pod = self._server.store.get(url)
        answer = self._trainers.answer(pod) if pod is not None else None
        if answer is None:
            raise aiohttp.ClientError("nobody answers")
        yield Answer(json.dumps(answer).encode())


class Answer:
    """As aiohttp's response, as far as kube/observe/agents.py reads it."""

    def __init__(self, raw: bytes) -> None:
        self.content, self._raw = self, raw

    async def iter_any(self) -> AsyncIterator[bytes]:
        yield self._raw


def key_of(pod: Object) -> JobKey:
    """The job whose label a pod carries."""
    return pod["metadata"]["namespace"], label(pod, LABEL_JOB)


def label(found: Object, name: str) -> str:
    return str((found["metadata"].get("labels") or {}).get(name, ""))


def _exit_code(pod: Object) -> int | None:
    statuses: Iterable[Object] = pod["status"].get("containerStatuses") or []
    ended = [found["state"]["terminated"] for found in statuses if found["name"] == CONTAINER and "terminated" in found["state"]]
    return int(ended[0]["exitCode"]) if ended else None
