"""The dashboards as the chart installs them, and their queries as Prometheus reads them."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.chart.promtool import promtool_path
from tests.cluster.release import Object, of_kind, rendered

pytestmark = pytest.mark.cluster

FILES = Path(__file__).parents[2] / "charts" / "llmtrain" / "files" / "dashboards"


def installed(**values: Any) -> list[Object]:
    objects = rendered({"metrics": {"dashboards": {"enabled": True, **values}}})
    return [one for one in of_kind(objects, "ConfigMap", "GrafanaDashboard") if "dashboard" in one["metadata"]["name"]]


def test_each_dashboard_is_a_config_map_that_the_sidecar_finds() -> None:
    found = installed()
    assert sorted(one["metadata"]["name"] for one in found) == [f"llmtrain-dashboard-{path.stem}" for path in sorted(FILES.glob("*.json"))]
    for one in found:
        ((name, text),) = one["data"].items()
        assert one["metadata"]["labels"]["grafana_dashboard"] == "1" and "annotations" not in one["metadata"]
        assert json.loads(text) == json.loads((FILES / name).read_text())


def test_label_folder_and_namespace_can_be_chosen() -> None:
    for one in installed(labels={"show": "yes"}, folder="LLM", folderAnnotation="k8s-sidecar-target-directory", namespace="monitoring"):
        assert one["metadata"]["labels"]["show"] == "yes" and one["metadata"]["namespace"] == "monitoring"
        assert one["metadata"]["annotations"] == {"k8s-sidecar-target-directory": "LLM"}


def test_the_grafana_operator_takes_them_from_the_config_maps() -> None:
    found = installed(grafanaOperator={"enabled": True}, folder="LLM")
    maps = {one["metadata"]["name"]: one["data"] for one in of_kind(found, "ConfigMap")}
    taken = of_kind(found, "GrafanaDashboard")
    assert len(taken) == len(maps) == 3
    for one in taken:
        reference = one["spec"]["configMapRef"]
        assert reference["key"] in maps[reference["name"]] and one["spec"]["folder"] == "LLM"


def test_without_the_switch_there_are_none() -> None:
    assert of_kind(rendered(), "ConfigMap", "GrafanaDashboard") == []


def queries(found: Any) -> list[str]:
    """Every expression of a dashboard, of panels and of marks."""
    if isinstance(found, dict):
        own = [found["expr"]] if isinstance(found.get("expr"), str) else []
        return own + [text for value in found.values() for text in queries(value)]
    return [text for value in found for text in queries(value)] if isinstance(found, list) else []


def test_prometheus_reads_every_query(tmp_path: Path) -> None:
    texts = [text for path in sorted(FILES.glob("*.json")) for text in queries(json.loads(path.read_text()))]
    assert len(texts) > 50
    read = [re.sub(r"\$\w+", "x", text.replace("$__rate_interval", "5m")) for text in texts]
    rules = [{"record": f"one:query:{index}", "expr": text} for index, text in enumerate(read)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run([promtool_path(), "check", "rules", str(tmp_path / "rules.yaml")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
