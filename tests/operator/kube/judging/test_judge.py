"""The process apart: it answers, is ended by what takes too long or too much, and is there again for the next."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.operator.kube.judging.test_planner import manifest

from llmtrain_operator.kube.judging.judge import Here, Judge, NoJudgementError
from llmtrain_operator.kube.judging.judgement import Planned
from llmtrain_operator.kube.judging.planner import FAILED_SECONDS, Planner
from llmtrain_operator.life.from_objects import job_of

pytestmark = pytest.mark.processes
PATIENCE = 60.0
"""Seconds for what a busy machine may take its time over."""


class Hostile(Judge):
    """A judge that may also be asked what takes for ever, and for memory without end."""

    async def hang(self) -> Any:
        return await self.ask("reviewed", _Bomb("while True: pass"), {})

    async def swell(self) -> Any:
        return await self.ask("reviewed", _Bomb("x = b'x' * (2 << 30)"), {})

    async def die(self) -> Any:
        return await self.ask("reviewed", _Bomb("import os; os._exit(3)"), {})


class _Bomb:
    """Runs when it is unpickled: stands for a manifest over which the judgement goes wrong."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> Any:
        return exec, (self.code,)


async def test_what_takes_too_long_or_too_much_fails_alone_and_the_next_is_judged() -> None:
    judge = Hostile(seconds=PATIENCE)
    try:
        assert isinstance(await judge.ask("planned", manifest(), {}), Planned)
        with pytest.raises(NoJudgementError, match="MemoryError"):
            await judge.swell()
        with pytest.raises(NoJudgementError, match="the planning process ended"):
            await judge.die()
        judge._seconds = 0.2
        with pytest.raises(NoJudgementError, match=r"longer than 0\.2 s"):
            await judge.hang()
        judge._seconds = PATIENCE
        found = await judge.ask("planned", manifest(), {})
        assert found.plan is not None and found.refusal is None
        assert judge._process is not None and not any(name.startswith(("AWS", "HF")) for name in _environment(judge._process.pid))
    finally:
        await judge.close()


def _environment(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/environ").read_text().split("\0")


async def test_a_judge_that_was_killed_is_started_again() -> None:
    judge = Judge(PATIENCE)
    try:
        await judge.ask("planned", manifest(), {})
        assert judge._process is not None
        os.kill(judge._process.pid, signal.SIGKILL)
        await judge._process.wait()
        assert (await judge.ask("planned", manifest(), {})).plan is not None
    finally:
        await judge.close()


class Failing(Here):
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def ask(self, *_: Any) -> Any:
        self.asked += 1
        raise NoJudgementError("it took longer than 3 s")


async def test_a_plan_that_fails_refuses_its_job_and_is_tried_again_ever_later() -> None:
    now, judge = [0.0], Failing()
    planner = Planner(clock=lambda: now[0], judges=judge)
    for wait in (*FAILED_SECONDS, FAILED_SECONDS[-1]):
        refused = await planner.plan(manifest())
        assert refused.plan is None and refused.refusal is not None and "it took longer than 3 s" in refused.refusal
        asked = judge.asked
        now[0] += wait - 1
        await planner.plan(manifest())
        assert judge.asked == asked
        now[0] += 2


@pytest.mark.parametrize("error", [IndexError("x"), KeyError("x"), ZeroDivisionError()], ids=repr)
def test_no_error_of_reading_a_manifest_leaves_it(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise error

    monkeypatch.setattr("llmtrain_operator.life.from_objects.parse_object", broken)
    assert "cannot be read" in (job_of(manifest()).refusal or "")


async def test_who_goes_away_ends_neither_the_process_nor_what_others_asked() -> None:
    judge = Judge(PATIENCE)
    try:
        await judge.ask("planned", manifest(), {})
        assert judge._process is not None
        pid = judge._process.pid
        gone = [asyncio.create_task(judge.ask("planned", manifest(), {})) for _ in range(5)]
        await asyncio.sleep(0)
        stays = asyncio.create_task(judge.ask("planned", manifest(), {}))
        await asyncio.sleep(0.001)
        for task in gone:
            task.cancel()
        assert (await stays).plan is not None and judge._process.pid == pid
    finally:
        await judge.close()
