"""A small world to observe: a job of two pods that trains on two nodes, and everything that can be said of it otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from llmtrain_operator.api.job import Spec, Status
from llmtrain_operator.life.observed import Agent, Job, Node, Observed, Pod
from llmtrain_operator.manifest.parse import parse_object
from llmtrain_operator.plan.model.families import shape_of
from llmtrain_operator.plan.plan import Plan, plan
from llmtrain_trainer.config import NodeStatus

NOW = 1_800_000_000.0
UID = "uid-of-demo"


class World:
    """Builders; times are given in seconds before NOW or after it."""

    now = NOW
    uid = UID

    def manifest(self, **sections: Any) -> dict[str, Any]:
        spec = {
            "model": {"config": {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}},
            "tokenizer": {"source": "s3://models/tokenizer"},
            "dataset": [{"source": "s3://data/text.jsonl"}],
            "training": {"globalBatchSize": 8, "sequenceLength": 64, "maxSteps": 100},
            "checkpoint": {"destination": "s3://checkpoints/demo"},
            "resources": {"nodes": 2},
        }
        meta = {"name": "demo", "namespace": "team", "uid": UID, "generation": 3, "creationTimestamp": "2027-01-15T07:00:00Z"}
        return {"apiVersion": "llmtrain.io/v1alpha1", "kind": "LLMTrainJob", "metadata": meta, "spec": spec | sections}

    def spec(self, **sections: Any) -> Spec:
        return parse_object(self.manifest(**sections)).spec

    def plan(self, **sections: Any) -> Plan:
        sizes = {"intermediate_size": 172, "vocab_size": 512, "max_position_embeddings": 64}
        manifest = self.manifest(**sections)
        manifest["spec"]["model"]["config"] |= sizes
        job = parse_object(manifest)
        return plan(job, shape_of(job.spec.model.config or {}))

    def status(self, **fields: Any) -> Status:
        return Status.model_validate({"phase": "Running", "attempt": 1, "pods": {"wanted": 2, "created": 2}} | fields)

    def job(self, status: Status | None = None, spec: Spec | None = None, **changes: Any) -> Job:
        plain = Job(
            name="demo",
            namespace="team",
            uid=UID,
            generation=3,
            created=NOW - 3600,
            deleting=False,
            spec=spec or self.spec(),
            refusal=None,
            status=status or self.status(),
        )
        return replace(plain, **changes)

    def pod(self, index: int = 0, attempt: int = 1, **changes: Any) -> Pod:
        """One that runs."""
        plain = Pod(
            name=f"demo-a{attempt}-{index}",
            uid=f"uid-{attempt}-{index}",
            owner=UID,
            attempt=attempt,
            index=index,
            phase="Running",
            created=NOW - 1800,
            started=NOW - 1790,
            running=True,
            node=f"node-{index}",
        )
        return replace(plain, **changes)

    def pending(self, index: int = 0, attempt: int = 1, **changes: Any) -> Pod:
        """One whose container was not started."""
        return self.pod(index, attempt, **({"phase": "Pending", "started": None, "running": False, "created": NOW - 20} | changes))

    def ended(self, code: int, index: int = 0, attempt: int = 1, verdict: dict[str, Any] | None = None, **changes: Any) -> Pod:
        """One whose container exited; `verdict` is what its agent left."""
        text = json.dumps({"exitCode": code, "reason": "RankFailed", "message": "It failed."} | verdict) if verdict is not None else None
        facts = {"phase": "Failed" if code else "Succeeded", "running": False, "exit_code": code, "finished": NOW - 10, "termination": text}
        return self.pod(index, attempt, **(facts | changes))

    def agent(self, attempt: int = 1, age: float = 1.0, **fields: Any) -> Agent:
        said = {"job": "demo", "attempt": attempt, "nodeRank": 0, "phase": "training"} | fields
        return Agent(status=NodeStatus.model_validate(said), time=NOW - age)

    def progress(self, step: int = 40, **fields: Any) -> dict[str, Any]:
        return {
            "time": NOW - 1,
            "step": step,
            "targetSteps": 100,
            "consumedSamples": step * 8,
            "consumedTokens": step * 512,
            "loss": 2.34567,
            "gradNorm": 1.0,
            "learningRate": 1e-3,
            "stepSeconds": 2.0,
            "tokensPerSecond": 256.0,
        } | fields

    def node(self, index: int = 0, **changes: Any) -> Node:
        return replace(Node(name=f"node-{index}"), **changes)

    def observed(self, *pods: Pod, **changes: Any) -> Observed:
        """Two running pods where none are given."""
        pods = pods or (self.pod(0), self.pod(1))
        plain = Observed(
            now=NOW,
            job=self.job(),
            pods=pods,
            nodes={name: Node(name=name) for name in ("node-0", "node-1")},
            agents={0: self.agent(progress=self.progress())},
        )
        return replace(plain, **changes)

    def nothing(self, **changes: Any) -> Observed:
        """A job without pods."""
        return replace(self.observed(), **({"pods": (), "agents": {}} | changes))


Build = Callable[[World], Observed]


@pytest.fixture(scope="session")
def w() -> World:
    return World()
