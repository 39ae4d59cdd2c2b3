"""Whatever agents and verdicts say, a status comes of it that JSON can say and an API server takes: they come from pods that run code of
others."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.operator.life.conftest import NOW, World

from llmtrain_operator.api.job import Status
from llmtrain_operator.life.decide import decide
from llmtrain_operator.life.from_objects import agent_of
from llmtrain_operator.life.status import as_dict, project

W = World()
NUMBERS = (
    st.integers() | st.floats() | st.sampled_from([0, -1, 7, 1e300, 2e18, 10**400, 2**70, "9" * 30, float("nan"), float("inf"), None, True])
)
TEXTS = st.text(max_size=20) | st.sampled_from(["", "x" * 100_000, "\x1b]0;x\x07", "\ud800", "\x00"])
VALUES = NUMBERS | TEXTS | st.lists(TEXTS, max_size=3)
FIELDS = ("step", "targetSteps", "consumedSamples", "consumedTokens", "loss", "gradNorm", "stepSeconds", "tokensPerSecond", "mfu", "time")
ODD = st.dictionaries(st.sampled_from([*FIELDS, "epoch", "validationLoss", "memoryBytes", "learningRate", "blockedSeconds"]), NUMBERS)
SAVED = {"name": "step-00000030-a1-r1", "step": 30, "uri": "s3://c/demo/x", "bytes": 9, "committedAt": NOW - 60}
VERDICT = ("reason", "message", "step", "restarts", "firstFailingRank", "node", "exitCode", "notices", "checkpoint")


def sound(status: Status) -> None:
    """Raises where an API server would refuse it."""
    said = as_dict(status)
    Status.model_validate(json.loads(json.dumps(said, allow_nan=False)), strict=False)
    json.dumps(said, ensure_ascii=False).encode()


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@example({"consumedTokens": 10**18, "tokensPerSecond": 1e-300}, {}, {"message": "\ud800"}, 0)
@example({"step": "9" * 30}, {"name": "\ud800", "uri": "\ud800"}, {"notices": ["\ud800"]}, 0)
@example({"step": 2e18, "time": float("nan")}, {"committedAt": float("nan")}, {}, 0)
@example({"loss": float("nan"), "stepSeconds": float("inf"), "mfu": float("nan")}, {"committedAt": 1e300}, {}, 0)
@given(
    ODD,
    st.dictionaries(st.sampled_from(sorted(SAVED)), VALUES),
    st.dictionaries(st.sampled_from(["message", "lastRestart", "restarts", "resumedFromStep", "notices", "attempt"]), VALUES),
    st.integers(0, 2),
)
def test_an_agent_may_say_anything(row: dict[str, Any], saved: dict[str, Any], more: dict[str, Any], index: int) -> None:
    answer = {
        "job": "demo",
        "attempt": 1,
        "nodeRank": index,
        "phase": "training",
        "progress": W.progress() | row,
        "checkpoint": SAVED | saved,
    }
    agent = agent_of(answer | more, NOW)
    seen = W.observed(agents={index: agent} if agent else {})
    first = project(seen, decide(seen))
    sound(first)


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@example({"step": 10**18 + 1}, {}, {}, 1)
@example({"step": "9" * 30}, {}, {}, 1)
@example({"notices": ["\ud800"], "node": "\ud800"}, {}, {"name": "\ud800"}, 1)
@example({}, {"step": 2e18}, {"committedAt": float("nan")}, 0)
@given(
    st.dictionaries(st.sampled_from(VERDICT), VALUES),
    ODD,
    st.dictionaries(st.sampled_from(sorted(SAVED)), VALUES),
    st.sampled_from([0, 1, 2, 12, 75, 137, -1, 10**9]),
)
def test_a_verdict_may_say_anything(verdict: dict[str, Any], row: dict[str, Any], saved: dict[str, Any], code: int) -> None:
    verdict = {"progress": W.progress() | row, "checkpoint": SAVED | saved} | verdict
    seen = W.observed(W.ended(code, 0, verdict=verdict), W.ended(code, 1, verdict=verdict), agents={})
    sound(project(seen, decide(seen)))
