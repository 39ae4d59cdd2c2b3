"""One vocabulary for the metrics of agents and operator, and a page that is generated from it."""

from __future__ import annotations

import math
import re
from pathlib import Path

from scripts.metrics_page import page

from llmtrain_operator.kube.metrics.catalog import METRICS as OF_THE_OPERATOR
from llmtrain_trainer.agent.telemetry.catalog import METRICS as OF_AN_AGENT
from llmtrain_trainer.config.tables.time_accounts import OF_AN_AGENT as BOOKED_BY_AN_AGENT
from llmtrain_trainer.config.tables.time_accounts import TIME_STATES

BOTH = (*OF_AN_AGENT, *OF_THE_OPERATOR)
ROOT = Path(__file__).parents[2]


def test_the_page_is_the_generated_one() -> None:
    assert (ROOT / "docs" / "operations" / "metrics.md").read_text() == page()


def test_no_name_stands_twice() -> None:
    names = [metric.name for metric in BOTH]
    assert len(names) == len(set(names))


def test_names_have_units_and_labels_are_none_of_a_scraper() -> None:
    for metric in BOTH:
        assert re.fullmatch(r"[a-z_]+", metric.name), metric.name
        assert (metric.kind == "counter") == metric.name.endswith("_total"), metric.name
        assert metric.kind != "histogram" or metric.name.endswith("_seconds"), metric.name
        assert not {"job", "instance", "namespace", "pod", "rank"} & metric.labels.keys(), metric.name
        assert metric.text.endswith("."), metric.name


def test_a_metric_has_at_most_ten_series_where_its_labels_are_known() -> None:
    for metric in BOTH:
        assert math.prod(len(values) or 1 for values in metric.labels.values()) <= 10, metric.name


def test_states_of_time_are_those_of_one_vocabulary() -> None:
    told = [set(metric.labels["state"]) for metric in BOTH if metric.name.endswith(("time_seconds_total", "gpu_seconds_total"))]
    assert len(told) == 3 and all(states <= set(TIME_STATES) for states in told)
    assert set(BOOKED_BY_AN_AGENT) in told
