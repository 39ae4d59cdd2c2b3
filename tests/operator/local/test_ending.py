"""How a local run ends: saved when told once, killed when told twice, and never an agent left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from llmtrain_operator.local import agents as agents_module
from llmtrain_operator.local import run as run_module
from llmtrain_operator.local.agents import AgentProcess, exit_code, kill
from llmtrain_operator.local.run import Outcome, Ready
from llmtrain_operator.local.shutdown import SECONDS_TO_FOLLOW, SECONDS_TO_SAVE, Shutdown
from llmtrain_operator.local.watch import Snapshot
from llmtrain_operator.local.workdir import Workdir
from llmtrain_trainer.config import TrainerConfig

pytestmark = pytest.mark.processes

PATIENT = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(75)); print('up', flush=True); time.sleep(600)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
PATIENCE = 120.0
Start = Callable[[str], AgentProcess]
FAILS = "print('up', flush=True); raise SystemExit(1)"


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[AgentProcess] = []

    def one(code: str) -> AgentProcess:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        started.append(AgentProcess(len(started), 0, process))
        return started[-1]

    yield one
    kill(started)


def test_told_once_the_agents_save(start: Start) -> None:
    agents, said = [start(PATIENT), start(PATIENT)], list[str]()
    shutdown = Shutdown(agents, said.append)
    with shutdown.listening():
        os.kill(os.getpid(), signal.SIGTERM)
        shutdown.tend(0.0)
    assert exit_code(agents) == 75
    assert said == ["Saving a checkpoint, then stopping. Press Ctrl-C again to stop at once."]


def test_told_twice_they_are_killed(start: Start) -> None:
    agents, said = [start(DEAF)], list[str]()
    shutdown = Shutdown(agents, said.append)
    with shutdown.listening():
        os.kill(os.getpid(), signal.SIGINT)
        shutdown.tend(0.0)
        assert agents[0].alive
        os.kill(os.getpid(), signal.SIGINT)
        shutdown.tend(1.0)
    assert exit_code(agents) == 128 + 9


def test_saving_that_takes_too_long_ends(start: Start) -> None:
    agents, said = [start(DEAF)], list[str]()
    shutdown = Shutdown(agents, said.append, told=1)
    shutdown.tend(0.0)
    shutdown.tend(SECONDS_TO_SAVE - 1)
    assert agents[0].alive
    shutdown.tend(SECONDS_TO_SAVE + 1)
    assert exit_code(agents) == 128 + 9
    assert "longer than" in said[-1]


def test_when_one_node_fails_the_others_are_told_after_a_while(start: Start) -> None:
    agents, said = [start(FAILS), start(PATIENT)], list[str]()
    agents[0].process.wait()
    shutdown = Shutdown(agents, said.append)
    shutdown.tend(100.0)
    shutdown.tend(100.0 + SECONDS_TO_FOLLOW - 1)
    assert agents[1].alive
    shutdown.tend(100.0 + SECONDS_TO_FOLLOW + 1)
    assert exit_code(agents) == 1  # the failure, not that the other was saved
    assert said == ["A node has failed; the others stop."]


def test_signals_mean_what_they_meant_before_once_the_run_is_over(start: Start) -> None:
    before = signal.getsignal(signal.SIGINT)
    with Shutdown([], print).listening():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_an_agent_does_not_outlive_a_command_that_was_killed(tmp_path: Path) -> None:
    parent = (
        "import subprocess, sys, time\n"
        f"from {agents_module.__name__} import _die_with_parent\n"
        "sleeper = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
        "child = subprocess.Popen(sleeper, start_new_session=True, preexec_fn=_die_with_parent)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    command = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    assert command.stdout is not None
    child = psutil.Process(int(command.stdout.readline()))
    command.kill()
    command.wait()
    until = time.monotonic() + PATIENCE
    while runs(child):
        assert time.monotonic() < until, "the agent still runs"
        time.sleep(0.05)


def runs(process: psutil.Process) -> bool:
    """A zombie does not; that nobody reaps it is the business of this machine's first process."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Silent:
    """A view that draws nothing."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, _snapshot: Snapshot) -> None:
        return None

    def say(self, _text: str) -> None:
        return None


def ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: TrainerConfig, code: int, close: Callable[[Outcome], None]) -> Outcome:
    """A whole run whose agent ends at once, with a report that is not made."""
    monkeypatch.setattr(run_module, "SECONDS_BETWEEN_LOOKS", 0.01)
    process = subprocess.Popen([sys.executable, "-c", f"raise SystemExit({code})"])
    monkeypatch.setattr(run_module, "start_agents", lambda *_: [AgentProcess(0, 0, process)])
    monkeypatch.setattr(run_module.trainer, "write_report", lambda *_: tmp_path / "report.html")
    return run_module.run(Ready(config, Workdir(tmp_path), ()), Silent(), close=close)


def test_a_ctrl_c_in_the_moment_of_a_refusal_does_not_take_the_reason_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_job: Any, resolve: Any
) -> None:
    said = list[int]()

    def close(outcome: Outcome) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        said.append(outcome.exit_code)

    ends(tmp_path, monkeypatch, resolve(make_job()), 2, close)
    assert said == [2]


@pytest.mark.parametrize(("code", "made"), [(0, True), (2, False)], ids=["finished already", "refused"])
def test_a_finished_job_that_is_started_again_writes_its_report(
    code: int, made: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_job: Any, resolve: Any
) -> None:
    outcome = ends(tmp_path, monkeypatch, resolve(make_job()), code, lambda _: None)
    assert (outcome.report is not None) is made
