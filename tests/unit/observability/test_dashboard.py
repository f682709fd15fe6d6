"""The dashboard asks for metrics that exist, in expressions that Prometheus can parse, and Grafana can load it."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from proxmox_operator.engine.metrics import Metrics
from unit.observability.promql import (
    ADDED,
    FAMILIES,
    FILES,
    check_expressions,
    series_of,
    unknown_labels,
    unknown_values,
)

pytestmark = pytest.mark.timeout(900)  # promtool is built once, in minutes

DASHBOARD: dict[str, Any] = json.loads((FILES / "dashboard.json").read_text(encoding="utf-8"))
PANELS = DASHBOARD["panels"]
GRAPHS = [panel for panel in PANELS if panel["type"] != "row"]
TARGETS = [(panel, target) for panel in GRAPHS for target in panel["targets"]]
VARIABLES = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
graphs = pytest.mark.parametrize("panel", GRAPHS, ids=lambda panel: panel["title"])


def test_panels_have_an_id_and_a_title_of_their_own_and_do_not_cover_each_other():
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    for one, other in combinations((panel["gridPos"] for panel in PANELS), 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in PANELS)


@graphs
def test_a_panel_says_what_it_shows_and_reads_from_the_chosen_data_source(panel):
    assert panel["description"].endswith(".")
    for source in (panel["datasource"], *(target["datasource"] for target in panel["targets"])):
        assert source == {"type": "prometheus", "uid": "${datasource}"}
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


@graphs
def test_a_panel_asks_for_metrics_and_labels_that_exist(panel):
    for target in panel["targets"]:
        expression = target["expr"]
        assert series_of(expression)
        assert series_of(expression) - FAMILIES.keys() == set()
        assert unknown_labels(expression) == set()
        assert unknown_values(expression) == []
        shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        grouped = re.findall(r"\bby \(([^)]*)\)", expression)
        left = {label.strip() for label in grouped[0].split(",")} if grouped else ADDED
        assert shown <= left, f"{panel['title']}: {shown - left} are not left by the expression"


def test_prometheus_parses_every_expression(tmp_path: Path):
    expressions = [target["expr"].replace("$__rate_interval", "5m") for _, target in TARGETS]
    assert check_expressions(expressions, tmp_path) == ""


def test_an_expression_that_prometheus_cannot_parse_is_noticed(tmp_path: Path):
    assert "parse error" in check_expressions(["sum(proxmox_operator_leader", "up"], tmp_path)


def test_variables_that_are_used_are_defined_and_those_defined_are_used():
    text = json.dumps([PANELS, [each.get("definition") for each in VARIABLES.values()]])
    used = set(re.findall(r"\$\{?(\w+)\}?", text)) - {"__rate_interval"}
    assert used == VARIABLES.keys()
    for each in VARIABLES.values():
        assert each["type"] == "datasource" or series_of(each["definition"]) <= FAMILIES.keys()


def test_it_is_a_dashboard_that_grafana_imports_as_a_new_one():
    assert DASHBOARD["id"] is None
    assert DASHBOARD["uid"] == "proxmox-operator"
    assert DASHBOARD["schemaVersion"] >= 39
    assert {panel["type"] for panel in PANELS} == {"row", "stat", "timeseries"}
    assert all(panel["fieldConfig"]["defaults"]["unit"] for panel in GRAPHS)


def test_each_metric_that_tells_of_work_is_on_the_dashboard():
    shown = set().union(*(series_of(target["expr"]) for _, target in TARGETS))
    missing = [family.name for family in Metrics().families() if shown.isdisjoint(family.series)]
    assert missing == [
        "process_virtual_memory_bytes",
        "process_start_time_seconds",
        "process_open_fds",
        "process_max_fds",
    ]
