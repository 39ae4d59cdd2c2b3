"""Recording rules and alerts of the chart, judged by promtool: each alert fires on its case, and not on the case beside it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.chart.promtool import promtool_path
from tests.cluster.release import of_kind, rendered

pytestmark = pytest.mark.cluster

CASES: dict[str, dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "alerts.yaml").read_text())
JOB = 'train_namespace="team",train_job="demo"'
RUNNING = {'llmtrain_job_phase{$JOB,phase="Running"}': "1x400"}
LED = {'llmtrain_leader{pod="other"}': "1x400"}


def groups(**metrics: Any) -> list[dict[str, Any]]:
    """The rules of the chart with these values below `metrics`."""
    (rule,) = of_kind(rendered({"metrics": {"rules": {"enabled": True, **metrics.pop("rules", {})}, **metrics}}), "PrometheusRule")
    found: list[dict[str, Any]] = rule["spec"]["groups"]
    return found


def alerts(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in found for rule in group["rules"] if "alert" in rule}


def passes(*arguments: Any) -> None:
    done = subprocess.run([promtool_path(), *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def checked(name: str, case: dict[str, Any], kind: str) -> dict[str, Any]:
    """One test of promtool."""
    given = {**(RUNNING if case.get("running", True) else {}), **({} if name == "LLMTrainNoLeader" else LED), **case[kind]}
    series = [{"series": one.replace("$JOB", JOB), "values": values} for one, values in given.items()]
    query = f'sum by (alertname) (ALERTS{{alertname="{name}",alertstate="firing"}})'
    expected = [{"labels": f'{{alertname="{name}"}}', "value": 1}] if kind == "fires" else []
    asked = [{"expr": query, "eval_time": case.get("at", "2h"), "exp_samples": expected}]
    return {"interval": "1m", "name": f"{name} {kind}", "input_series": series, "promql_expr_test": asked}


def test_promtool_accepts_the_rules_and_each_alert_fires_on_its_case_alone(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups()}))
    passes("check", "rules", "--lint-fatal", tmp_path / "rules.yaml")
    tests = [checked(name, case, kind) for name, case in CASES.items() for kind in ("fires", "quiet")]
    (tmp_path / "tests.yaml").write_text(json.dumps({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}))
    passes("test", "rules", tmp_path / "tests.yaml")


def test_each_alert_has_a_case() -> None:
    assert set(CASES) == set(alerts(groups()))


def test_without_the_switch_there_are_no_rules() -> None:
    assert of_kind(rendered(), "PrometheusRule", "PodMonitor", "ServiceMonitor") == []


def test_an_alert_can_be_switched_off_and_changed() -> None:
    given = {
        "LLMTrainJobStalled": {"for": "1h", "severity": "page", "threshold": 1234567.5},
        "LLMTrainJobFailed": {"enabled": False},
        "LLMTrainJobQueuedLong": None,
    }
    found = alerts(groups(alerts=given, rules={"alertLabels": {"team": "ml"}, "runbooks": "https://runbooks.example/"}))
    stalled = found["LLMTrainJobStalled"]
    assert stalled["for"] == "1h" and stalled["labels"] == {"severity": "page", "team": "ml"}
    assert "> 1.2345675e+06" in stalled["expr"] or "> 1234567.5" in stalled["expr"]
    assert stalled["annotations"]["runbook_url"] == "https://runbooks.example/llmtrainjobstalled.md"
    assert not {"LLMTrainJobFailed", "LLMTrainJobQueuedLong"} & found.keys() and found["LLMTrainNoLeader"]["labels"] == {
        "severity": "critical",
        "team": "ml",
    }


@pytest.mark.parametrize(
    "given", [{"LLMTrainStalled": {}}, {"LLMTrainJobFailed": {"for": "soon"}}, {"LLMTrainJobFailed": {"threshold": 3}}]
)
def test_an_alert_that_does_not_exist_and_a_value_that_it_has_not_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError, match="alerts"):
        groups(alerts=given)


def test_trainers_are_scraped_in_the_watched_namespaces() -> None:
    metrics = {"metrics": {"podMonitor": {"enabled": True, "labels": {"release": "prometheus"}, "interval": "30s"}}}
    (monitor,) = of_kind(rendered(metrics), "PodMonitor")
    assert monitor["spec"]["namespaceSelector"] == {"any": True} and monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["podMetricsEndpoints"] == [{"port": "http", "path": "/metrics", "interval": "30s"}]
    (monitor,) = of_kind(rendered({**metrics, "namespaces": ["a", "b"]}), "PodMonitor")
    assert monitor["spec"]["namespaceSelector"] == {"matchNames": ["a", "b"]}
