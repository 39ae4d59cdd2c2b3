"""The cases that belong to `make test`: all that only plan, and one of each kind that trains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.cases.case import CASES, LLMTRAIN, Case, cases, in_a_process, play

from llmtrain_operator.cli.app import invoke

ALL = cases()


def named(tier: str) -> list[object]:
    return [pytest.param(case, id=case.name) for case in ALL if case.tier == tier and (tier == "plan" or case.quick)]


@pytest.mark.parametrize("case", named("plan"))
def test_a_planned_case_is_told_as_expected(
    case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_this_process(command: list[str], here: Path, environment: Mapping[str, str]) -> tuple[int, str]:
        if command[0] != LLMTRAIN:
            return in_a_process(command, here, environment)
        monkeypatch.chdir(here)
        for name in ("XDG_CACHE_HOME", "HF_HUB_OFFLINE", "COLUMNS"):
            monkeypatch.setenv(name, environment[name])
        code = invoke(command[1:])
        said = capfd.readouterr()
        return code, said.out + said.err

    for result in play(case, tmp_path, in_this_process):
        assert not result.wrong, f"{result.wrong}\n{result.output}"


@pytest.mark.processes
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", named("run"))
def test_a_case_that_runs_ends_as_expected(case: Case, tmp_path: Path) -> None:
    for result in play(case, tmp_path, in_a_process):
        assert not result.wrong, f"{result.wrong}\n{result.output}"


def test_every_folder_is_a_case() -> None:
    folders = {path.name for path in CASES.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == {case.name for case in ALL}
