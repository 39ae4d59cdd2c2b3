"""What is made of the metrics names metrics that exist, and each alert has its values, its schema and its page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from llmtrain_operator.cli.app import app
from llmtrain_operator.kube.metrics.catalog import METRICS as OF_THE_OPERATOR
from llmtrain_trainer.agent.telemetry.catalog import METRICS as OF_AN_AGENT
from llmtrain_trainer.config.tables.metric import PREFIX

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "llmtrain"
RULES: dict[str, dict[str, str]] = yaml.safe_load((CHART / "files/rules/alerts.yaml").read_text())
RECORDS: list[dict[str, str]] = yaml.safe_load((CHART / "files/rules/recording.yaml").read_text())
VALUES: dict[str, dict[str, Any]] = yaml.safe_load((CHART / "values.yaml").read_text())["metrics"]["alerts"]
PAGES = ROOT / "docs" / "operations" / "runbooks"
TOLD = {
    f"{PREFIX}{metric.name}{suffix}"
    for metric in (*OF_AN_AGENT, *OF_THE_OPERATOR)
    for suffix in (("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",))
}
RECORDED = {rule["record"] for rule in RECORDS}


def unknown(expression: str) -> set[str]:
    """Names in a query that neither the catalog nor a recording rule has."""
    ours = set(re.findall(r"\bllmtrain_\w+", expression)) - TOLD
    return ours | (set(re.findall(r"\b(?:train_job|fleet):[\w:]+", expression)) - RECORDED)


@pytest.mark.parametrize("rule", [*RECORDS, *RULES.values()], ids=[*sorted(RECORDED), *RULES])
def test_a_rule_asks_for_metrics_that_exist(rule: dict[str, str]) -> None:
    assert unknown(rule["expr"]) == set()


def test_each_alert_has_values_a_schema_and_a_page_and_none_is_left_over() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]["metrics"]["properties"]["alerts"]["properties"]
    assert sorted(RULES) == sorted(VALUES) == sorted(schema)
    assert sorted(f"{name.lower()}.md" for name in RULES) == sorted(path.name for path in PAGES.glob("*.md"))


@pytest.mark.parametrize("name", sorted(RULES))
def test_an_alert_has_a_threshold_where_it_compares_with_one(name: str) -> None:
    assert ("threshold" in VALUES[name]) == ("THRESHOLD" in RULES[name]["expr"])
    assert {"enabled", "for", "severity"} <= set(VALUES[name]) and VALUES[name]["severity"] in ("warning", "critical")


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_page_says_meaning_impact_diagnosis_and_mitigation(name: str) -> None:
    text = (PAGES / f"{name.lower()}.md").read_text()
    assert re.findall(r"^#+ (.*)$", text, re.MULTILINE) == [name, "Meaning", "Impact", "Diagnosis", "Mitigation"]
    assert all(len(part.strip()) > 30 for part in text.split("\n## ")[1:])


def test_the_commands_of_the_pages_exist_with_their_options() -> None:
    group: Any = typer.main.get_command(app)
    for page in sorted(PAGES.glob("*.md")):
        for line in re.findall(r"^llmtrain (.*)$", page.read_text(), re.MULTILINE):
            command, words = group, line.split()
            while words and words[0] in getattr(command, "commands", {}):
                command = command.commands[words.pop(0)]
            known = {option for parameter in command.params for option in parameter.opts}
            assert command is not group and {word for word in words if word.startswith("-")} <= known, f"{page.name}: llmtrain {line}"
