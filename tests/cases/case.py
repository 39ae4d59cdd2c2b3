"""One case: read from its folder, run step by step in a copy of it, and compared with what it expects."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

CASES = Path(__file__).parent
LLMTRAIN = str(Path(sys.executable).with_name("llmtrain"))

SECONDS = 900.0
"""After which a step counts as hanging, on the busiest machine."""

HUNG = 124
"""The exit code of such a step, as `timeout` gives it."""

Run = Callable[[list[str], Path, Mapping[str, str]], tuple[int, str]]
"""(command line, directory, environment) -> (exit code, output)."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command and what it must show."""

    llmtrain: str | None = None
    python: str | None = None
    exit: int = 0
    says: list[str] = field(default_factory=list)
    never: list[str] = field(default_factory=list)
    last: str | None = None
    files: dict[str, list[str]] = field(default_factory=dict)

    def command(self) -> list[str]:
        if self.llmtrain is not None:
            return [LLMTRAIN, *shlex.split(self.llmtrain)]
        assert self.python is not None, "a step is llmtrain: or python:"
        return [sys.executable, *shlex.split(self.python)]

    def wants(self) -> str:
        """What is expected, in one line."""
        return "; ".join(
            [f"exit {self.exit}", *self.says, *([self.last] if self.last else []), *(f"{p}: {t}" for p, t in self.files.items())]
        )


@dataclass(frozen=True, kw_only=True)
class Case:
    """A folder of tests/cases."""

    name: str
    says: str
    tier: Literal["plan", "run"]
    steps: list[Step]
    quick: bool = False
    make: str | None = None


@dataclass(frozen=True)
class Result:
    """What a step gave: `wrong` is empty where it is as expected."""

    step: Step
    exit: int
    output: str
    wrong: list[str]


def cases() -> list[Case]:
    """Every case, by name."""
    return [_read(path.parent) for path in sorted(CASES.glob("*/case.yaml"))]


def _read(folder: Path) -> Case:
    said: dict[str, Any] = yaml.safe_load((folder / "case.yaml").read_text())
    steps = [Step(**step) for step in said.pop("steps")]
    return Case(name=folder.name, steps=steps, **said)


def play(case: Case, place: Path, run: Run) -> Iterator[Result]:
    """Run the steps in a copy of the folder below `place`, up to the first that is wrong."""
    here = place / case.name
    shutil.copytree(CASES / case.name, here, symlinks=True)
    for path in here.rglob("*.yaml"):
        path.write_text(path.read_text().replace("{here}", str(here)))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(place / "cache"), "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    if case.make:
        subprocess.run([sys.executable, *shlex.split(case.make)], cwd=here, env=environment, check=True, timeout=SECONDS)
    for step in case.steps:
        command = [word.replace("{here}", str(here)) for word in step.command()]
        code, output = run(command, here, environment)
        result = Result(step, code, output, list(_wrong(step, here, code, output)))
        yield result
        if result.wrong:
            return


def in_a_process(command: list[str], here: Path, environment: Mapping[str, str]) -> tuple[int, str]:
    """As a person runs it. Ended after SECONDS, with the exit code HUNG."""
    try:
        done = subprocess.run(
            command,
            cwd=here,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as hung:
        said = hung.output or b""
        return HUNG, said if isinstance(said, str) else said.decode(errors="replace")
    return done.returncode, done.stdout


def _wrong(step: Step, here: Path, code: int, output: str) -> Iterator[str]:
    if code != step.exit:
        yield f"exit {code} instead of {step.exit}"
    flat = _flat(output)
    yield from (f"not said: {text}" for text in step.says if _flat(text.replace("{here}", str(here))) not in flat)
    yield from (f"said, and must not be: {text}" for text in step.never if _flat(text) in flat)
    if step.last is not None and _flat(step.last) not in _flat("\n".join(_closing(output))):
        yield f"not in the closing lines: {step.last}"
    for name, texts in step.files.items():
        content = _flat((here / name).read_text(errors="replace")) if (here / name).exists() else None
        if content is None:
            yield f"{name} is not there"
            continue
        yield from (f"not in {name}: {text}" for text in texts if _flat(text) not in content)


def _closing(output: str) -> list[str]:
    lines = output.splitlines()
    steps = [index for index, line in enumerate(lines) if re.match(r"step \d+/\d+ \(", line)]
    return lines[steps[-1] + 1 :] if steps else lines


def _flat(text: str) -> str:
    return " ".join(text.split())
