"""What the run looks like, from what agents answer and what files say."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from llmtrain_operator.local.agents import AgentProcess
from llmtrain_operator.local.watch import Watch
from llmtrain_operator.local.workdir import Workdir
from llmtrain_trainer.config import NodeStatus, Progress, Verdict

pytestmark = pytest.mark.processes


def row(step: int, time: float, loss: float = 1.0) -> str:
    return (
        Progress(
            time=time,
            step=step,
            target_steps=100,
            consumed_samples=step,
            consumed_tokens=step,
            loss=loss,
            grad_norm=1.0,
            learning_rate=1e-3,
            step_seconds=0.5,
            tokens_per_second=100.0,
        ).model_dump_json(by_alias=True)
        + "\n"
    )


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.writelines(lines)


def event(time: float, kind: str, **more: Any) -> str:
    return json.dumps({"time": time, "kind": kind, "message": kind, **more}) + "\n"


@pytest.fixture
def agent() -> Iterator[AgentProcess]:
    """A process that lives until told, beside a server that answers as an agent does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = NodeStatus(job="small", attempt=1, node_rank=0, phase="training", restarts=1, resumed_from_step=4).model_dump_json(
                by_alias=True
            )
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: Any) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield AgentProcess(0, server.server_address[1], process)
    process.kill()
    process.wait()
    server.shutdown()
    server.server_close()


def test_rows_beyond_a_resume_are_not_shown_until_they_are_computed_again(tmp_path: Path, agent: AgentProcess) -> None:
    place = Workdir(tmp_path)
    watch = Watch([agent], place, began=0.0)
    metrics = place.node(0) / "metrics.jsonl"
    write(metrics, *(row(step, time=step) for step in range(1, 11)))
    assert watch.look().last is not None
    write(metrics, row(6, time=20, loss=9.0))
    snapshot = watch.look()
    assert [r.step for r in snapshot.rows] == [1, 2, 3, 4, 5, 6]
    assert snapshot.rows[-1].loss == 9.0
    assert snapshot.remaining_seconds == 0.5 * 94


def test_news_are_told_once_and_an_earlier_attempts_never(tmp_path: Path, agent: AgentProcess) -> None:
    place = Workdir(tmp_path)
    events = place.node(0) / "events.jsonl"
    write(events, event(1, "restart"), event(2, "checkpoint_committed", name="step-00000004-a1-r1", step=4, bytes=7))
    watch = Watch([agent], place, began=0.0)
    first = watch.look()
    assert first.news == ()
    assert first.checkpoint is not None
    assert first.checkpoint.step == 4
    write(events, event(3, "restore"))
    assert [happening.kind for happening in watch.look().news] == ["restore"]
    assert watch.look().news == ()


def test_an_agent_that_has_ended_is_shown_with_its_verdict(tmp_path: Path, agent: AgentProcess) -> None:
    place = Workdir(tmp_path)
    watch = Watch([agent], place, began=0.0)
    (alive,) = watch.look().nodes
    assert alive is not None
    assert alive.phase == "training"
    agent.process.kill()
    agent.process.wait()
    write(place.node(0) / "termination.json", Verdict(exit_code=1, reason="RankFailed", message="Rank 3 failed.").model_dump_json())
    snapshot = watch.look()
    (ended,) = snapshot.nodes
    assert ended is not None
    assert (ended.phase, ended.message) == ("failed", "Rank 3 failed.")
    assert (snapshot.restarts, snapshot.resumed_from_step) == (1, 4)


def test_an_agent_that_never_answered_is_unknown(tmp_path: Path, agent: AgentProcess) -> None:
    silent = AgentProcess(0, 1, agent.process)
    assert Watch([silent], Workdir(tmp_path)).look().nodes == (None,)
