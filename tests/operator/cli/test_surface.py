"""The public surface of the command line, frozen: a change here is a change for users and belongs in the changelog."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from llmtrain_operator.cli.app import app, invoke

CLUSTER = ["--namespace -n", "--context", "--kubeconfig"]
SURFACE = {
    "init": ["--file -f", "--name", "--task", "--model", "--data", "--lora", "--nodes", "--gpus-per-node", "--gpu", "--force"],
    "validate": ["--file -f", "--set"],
    "plan": ["--file -f", "--output -o", "--set"],
    "run": ["--file -f", "--nodes", "--workdir", "--set", "--plain"],
    "report": ["--workdir"],
    "import": ["recipe", "--from", "--file -f", "--name", "--nodes", "--gpus-per-node", "--gpu", "--dataset-info", "--force"],
    "convert": ["--file -f", "--from", "--from-format", "--to", "--to-format", "--step", "--work", "--set"],
    "submit": ["--file -f", "--set", "--dry-run", "--force", *CLUSTER],
    "get": ["job", "--output -o", "--all-namespaces -A", "--selector -l", "--watch -w", *CLUSTER],
    "watch": ["job", "--plain", "--timeout", *CLUSTER],
    "logs": ["job", "--rank", "--node", "--attempt", "--previous -p", "--follow -f", "--tail", *CLUSTER],
    "why": ["job", *CLUSTER],
    "suspend": ["job", "--wait", "--timeout", *CLUSTER],
    "resume": ["job", *CLUSTER],
    "delete": ["job", "--wait", "--timeout", *CLUSTER],
    "render": ["--file -f", "--attempt", "--image", "--gang", "--set"],
    "explain": ["field"],
    "version": [],
    "checkpoints list": ["job", "--file -f", "--destination", "--output -o", *CLUSTER],
    "checkpoints verify": ["job", "--file -f", "--destination", "--output -o", *CLUSTER],
}


def commands() -> dict[str, Any]:
    found: dict[str, Any] = {}

    def walk(group: Any, prefix: str) -> None:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                walk(command, f"{prefix}{name} ")
            else:
                found[f"{prefix}{name}"] = command

    walk(typer.main.get_command(app), "")
    return found


def test_commands_and_options_are_those_that_users_know() -> None:
    surface = {name: [" ".join(parameter.opts) for parameter in command.params] for name, command in commands().items()}
    assert surface == SURFACE


def test_every_command_and_option_says_what_it_is_for() -> None:
    for name, command in commands().items():
        assert (command.help or "").rstrip().endswith("."), name
        for parameter in command.params:
            assert parameter.help and parameter.help.rstrip().endswith("."), f"{name} {parameter.opts}"


def test_an_unknown_command_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["pln"]) == 2
    assert "'plan'" in capsys.readouterr().err


def test_a_missing_manifest_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["plan", "-f", "nowhere.yaml"]) == 2
    assert capsys.readouterr().err == "nowhere.yaml: there is no such file. `llmtrain init` writes one to start from.\n"


def test_planning_imports_neither_torch_nor_transformers() -> None:
    parts = ["cli.app", "cli.plan_table", "plan.plan", "sources", "local.run"]
    imports = "; ".join(f"import llmtrain_operator.{part}" for part in parts)
    code = f"import sys; {imports}; print({{'torch', 'transformers', 'kubernetes', 'kopf'}} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"


def test_the_page_on_commands_names_each_of_them() -> None:
    page = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()
    missing = {name.split()[0] for name in SURFACE if f"`{name.split()[0]}" not in page}
    assert not missing


def test_no_command_imports_what_only_a_cluster_needs_before_it_is_run() -> None:
    heavy = {"aiohttp", "kopf", "rich.live", "fsspec", "llmtrain_operator.api.job", "llmtrain_operator.plan"}
    code = f"import sys, llmtrain_operator.cli.app; print({heavy} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"
