"""What the dashboards are made of: panels with a title, a description and a unit, on the data source that the reader chose."""

from __future__ import annotations

from grafana_foundation_sdk.builders import common, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders.dashboard import (
    AnnotationQuery,
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    QueryVariable,
)
from grafana_foundation_sdk.models.common import BigValueColorMode, BigValueTextMode, StackingMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataSourceRef,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
HEIGHT, WIDTH = 8, 8
"""Of a graph: three in a row of 24 columns."""


def query(expr: str, legend: str = "") -> prometheus.Dataquery:
    """One query; `legend` names labels as {{label}}."""
    return prometheus.Dataquery().expr(expr).legend_format(legend).datasource(SOURCE)


def graph(title: str, text: str, unit: str, *queries: prometheus.Dataquery, stacked: bool = False, width: int = WIDTH) -> timeseries.Panel:
    """Lines over time, at most five queries."""
    panel = timeseries.Panel().title(title).description(text).unit(unit).datasource(SOURCE).height(HEIGHT).span(width)
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL)).fill_opacity(40)
    for one in _lettered(queries):
        panel = panel.with_target(one)
    return panel


def number(title: str, text: str, unit: str, expr: str, *, words: bool = False) -> stat.Panel:
    """The newest value; `words`: the name of the series instead of its value."""
    reduced = common.ReduceDataOptions().calcs(["lastNotNull"])
    panel = stat.Panel().title(title).description(text).unit(unit).datasource(SOURCE).height(4).span(3).no_value("-")
    panel = panel.color_mode(BigValueColorMode.NONE).reduce_options(reduced)
    legend = "{{phase}}{{reason}}{{engine}}" if words else title
    panel = panel.with_target(query(expr, legend).instant().ref_id("A"))
    return panel.text_mode(BigValueTextMode.NAME) if words else panel


def rows(title: str, text: str, unit: str, expr: str, width: int = 24) -> table.Panel:
    """A table of what is there now."""
    made = query(expr).instant().format(PromQueryFormat.TABLE).ref_id("A")
    return table.Panel().title(title).description(text).unit(unit).datasource(SOURCE).height(HEIGHT).span(width).with_target(made)


def board(uid: str, title: str, text: str) -> Dashboard:
    """An empty dashboard that cannot be edited in place, with the choice of a data source and links to the others."""
    made = (
        Dashboard(title).uid(uid).description(text).tags(["llmtrain"]).readonly().refresh("30s").time("now-6h", "now").timezone("browser")
    )
    made = made.with_variable(DatasourceVariable("datasource").label("Data source").type("prometheus"))
    others = DashboardLink("llmtrain").type(DashboardLinkType.DASHBOARDS).tags(["llmtrain"]).as_dropdown(True).include_vars(True)
    return made.link(others.keep_time(True))


def variable(name: str, label: str, values: str) -> QueryVariable:
    """A choice whose values are looked up whenever the time range changes."""
    made = QueryVariable(name).label(label).query({"query": values, "refId": name}).datasource(SOURCE)
    return made.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.ALPHABETICAL_ASC)


def mark(name: str, expr: str, color: str) -> AnnotationQuery:
    """A line across all graphs wherever the query has a value."""
    return AnnotationQuery().name(name).datasource(SOURCE).enable(True).icon_color(color).expr(expr)


def _lettered(queries: tuple[prometheus.Dataquery, ...]) -> list[prometheus.Dataquery]:
    return [one.range().ref_id("ABCDE"[index]) for index, one in enumerate(queries)]
