"""What the supervisor concludes from how ranks end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from torch.distributed.elastic.agent.server.api import WorkerState

from llmtrain_trainer.agent.processes.ranks import Ranks
from llmtrain_trainer.agent.supervisor import Supervisor


class Process:
    """One whose exit code is asked for a few times, and then is the last for ever."""

    pid = 1

    def __init__(self, *codes: int | None) -> None:
        self._codes = list(codes)

    @property
    def exitcode(self) -> int | None:
        return self._codes.pop(0) if len(self._codes) > 1 else self._codes[0]


@pytest.fixture
def supervisor() -> Any:
    """With nothing around it that has something to say."""
    made: Any = object.__new__(Supervisor)
    made._watch = SimpleNamespace(tick=lambda: None, hang=lambda: None)
    made._node = SimpleNamespace(stop=SimpleNamespace(expired=lambda: False))
    made._end_if_fenced, made._end_if_stopping, made._first_failure = (lambda *_: None,) * 3
    return made


@pytest.mark.parametrize(("code", "state"), [(0, WorkerState.SUCCEEDED), (1, WorkerState.FAILED)])
def test_a_rank_that_ends_between_two_looks_is_judged_at_the_next(supervisor: Any, code: int, state: WorkerState) -> None:
    processes: Any = {0: Process(None, code), 1: Process(0)}
    supervisor._ranks = Ranks(processes)
    assert supervisor._monitor_workers(None).state == WorkerState.HEALTHY
    result = supervisor._monitor_workers(None)
    assert result.state == state
    assert set(result.return_values) == ({0, 1} if code == 0 else set())
