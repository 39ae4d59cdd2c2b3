"""Grafana's own rules for dashboards, as far as they are about ours, and that each query asks for metrics that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from scripts.dashboards.__main__ import DASHBOARDS, FOLDER, main
from tests.contract.test_monitoring import unknown

Panel = dict[str, Any]
BOARDS: dict[str, dict[str, Any]] = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
MOST_QUERIES = 5
WHOLE = "since the creation of the job"
"""A panel that shows a counter as it is says so."""


def panels(board: dict[str, Any]) -> Iterator[Panel]:
    """Every panel that is no row, those of collapsed rows included."""
    for panel in board["panels"]:
        yield from (inner for inner in panel["panels"]) if panel["type"] == "row" else (panel,)


PANELS = [pytest.param(panel, id=f"{name}: {panel['title']}") for name, board in BOARDS.items() for panel in panels(board)]
each_panel = pytest.mark.parametrize("panel", PANELS)
each_board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)


def test_the_files_are_those_that_the_code_writes() -> None:
    assert main(["--check"]) == 0 and set(BOARDS) == set(DASHBOARDS)


@each_board
def test_a_board_asks_for_its_data_source_first_and_cannot_be_edited_in_place(board: dict[str, Any]) -> None:
    first = board["templating"]["list"][0]
    assert (first["name"], first["type"], first["query"], first["label"]) == ("datasource", "datasource", "prometheus", "Data source")
    assert board["editable"] is False and board["title"] and board["description"] and board["uid"].startswith("llmtrain-")


@each_board
def test_choices_have_labels_and_are_looked_up_when_the_time_changes(board: dict[str, Any]) -> None:
    for choice in board["templating"]["list"][1:]:
        assert choice["type"] == "query" and choice["label"] and choice["refresh"] == 2 and choice["datasource"] == SOURCE
        assert unknown(choice["query"]["query"]) == set()


@each_board
def test_a_board_leads_to_the_others(board: dict[str, Any]) -> None:
    (link,) = board["links"]
    assert link["type"] == "dashboards" and set(link["tags"]) <= set(board["tags"]) and link["keepTime"]


@each_board
def test_marks_ask_the_chosen_source_for_metrics_that_exist(board: dict[str, Any]) -> None:
    for mark in board.get("annotations", {}).get("list", []):
        assert mark["datasource"] == SOURCE and mark["enable"] and unknown(mark["expr"]) == set()


@each_board
def test_panels_have_places_of_their_own_and_no_title_stands_twice(board: dict[str, Any]) -> None:
    titles = [panel["title"] for panel in panels(board)]
    assert len(titles) == len(set(titles))
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells


@each_panel
def test_a_panel_has_title_description_unit_and_the_chosen_source(panel: Panel) -> None:
    assert panel["title"] and len(panel["description"]) > 10 and panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] and panel["datasource"] == SOURCE
    assert 1 <= len(panel["targets"]) <= MOST_QUERIES
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    assert all(target["datasource"] == SOURCE for target in panel["targets"])


@each_panel
def test_a_query_asks_for_metrics_that_exist(panel: Panel) -> None:
    for target in panel["targets"]:
        assert unknown(target["expr"]) == set()


@each_panel
def test_a_rate_is_taken_over_the_interval_of_the_panel(panel: Panel) -> None:
    for target in panel["targets"]:
        assert set(re.findall(r"(?:rate|increase)\([^\[]*\[([^\]]+)\]", target["expr"])) <= {"$__rate_interval"}


@each_panel
def test_a_counter_is_shown_as_a_rate_or_said_to_be_a_sum(panel: Panel) -> None:
    for target in panel["targets"]:
        counters = re.findall(r"\bllmtrain_\w+_(?:total|bucket|sum|count)\b", target["expr"])
        rates = re.findall(r"(?:rate|increase)\(llmtrain_\w+_(?:total|bucket|sum|count)\b", target["expr"])
        assert len(counters) == len(rates) or WHOLE in panel["description"]


@pytest.mark.parametrize("panel", [one for one in PANELS if str(one.id).startswith("job:")])
def test_a_panel_of_the_job_shows_that_job_alone(panel: Panel) -> None:
    for target in panel["targets"]:
        chosen = re.findall(r"\b(?:llmtrain_|train_job:|DCGM_)[\w:]+(\{[^}]*\})?", target["expr"])
        assert all('="$namespace"' in labels and "$job" in labels for labels in chosen)


@each_board
def test_what_needs_dcgm_is_in_a_row_that_is_closed_and_says_so(board: dict[str, Any]) -> None:
    open_ones = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert not any("DCGM" in target["expr"] for panel in open_ones for target in panel["targets"])
    closed = [panel for row in board["panels"] if row["type"] == "row" for panel in row["panels"]]
    assert all("no data" in panel["fieldConfig"]["defaults"]["noValue"] for panel in closed)
