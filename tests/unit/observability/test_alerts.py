"""Every alert has been seen to fire, asks for metrics that exist, and has a runbook."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from unit.observability.promql import (
    FAMILIES,
    FILES,
    ROOT,
    promtool,
    series_of,
    unknown_labels,
    unknown_values,
)

pytestmark = pytest.mark.timeout(900)  # promtool is built once, in minutes

RULES = FILES / "alerts.yaml"
FIRED = Path(__file__).parent / "alerts.test.yaml"
SITE = "https://proxmox-operator.io/docs/runbooks/#"
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
}
alerts = pytest.mark.parametrize("name", ALERTS)


def runbooks() -> dict[str, str]:
    """The text of each runbook by the anchor of its heading, as MkDocs makes it."""
    text = (ROOT / "docs" / "runbooks.md").read_text(encoding="utf-8")
    parts = re.split(r"^## (.+)$", text, flags=re.M)[1:]
    return {heading.strip().lower(): body for heading, body in zip(parts[::2], parts[1::2], strict=True)}


def test_each_alert_fires_where_it_should_and_nothing_fires_on_a_quiet_day():
    done = promtool("test", "rules", FIRED)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_among_those_that_were_fired():
    fired = set()
    for world in yaml.safe_load(FIRED.read_text())["tests"]:
        for check in world["promql_expr_test"]:
            fired |= set(re.findall(r'alertname="(\w+)"', str(check["exp_samples"])))
    assert fired == ALERTS.keys()


def test_a_rule_that_can_never_fire_would_be_noticed(tmp_path: Path):
    """Alerts are compared with all that fire in a world: one that is missing fails it."""
    broken = RULES.read_text().replace(
        "proxmox_operator_writes_frozen == 1", "proxmox_operator_writes_frozen == 2"
    )
    (tmp_path / "alerts.yaml").write_text(broken)
    shutil.copy(FIRED, tmp_path / "fired.yaml")
    fired = (tmp_path / "fired.yaml").read_text().replace("../../../charts/proxmox-operator/files/", "")
    (tmp_path / "fired.yaml").write_text(fired)
    done = promtool("test", "rules", "--run", "VMs vanished", tmp_path / "fired.yaml")
    assert done.returncode != 0
    assert "ProxmoxWritesFrozen" in done.stdout + done.stderr


@alerts
def test_an_alert_asks_for_metrics_and_labels_that_exist(name: str):
    expression = ALERTS[name]["expr"]
    assert series_of(expression)
    assert series_of(expression) - FAMILIES.keys() == set()
    assert unknown_labels(expression) == set()
    assert unknown_values(expression) == []


@alerts
def test_an_alert_says_what_is_the_matter_and_how_bad_it_is(name: str):
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    for text in ("summary", "description"):
        assert rule["annotations"][text].endswith(".")
        labels = set(re.findall(r"\$labels\.(\w+)", rule["annotations"][text]))
        grouped = re.findall(r"sum by \(([^)]*)\)|max by \(([^)]*)\)", rule["expr"])
        if grouped:
            kept = {label.strip() for pair in grouped for each in pair for label in each.split(",")}
            assert labels <= kept, f"{labels} are not all left by the expression"


@alerts
def test_an_alert_has_a_runbook_that_says_what_it_means_how_to_look_and_what_to_do(name: str):
    url = ALERTS[name]["annotations"]["runbook_url"]
    assert url == SITE + name.lower()
    body = runbooks()[name.lower()]
    for part in ("**What it means.**", "**How to look.**", "**What to do.**"):
        assert part in body, f"{name}: {part}"


def test_no_runbook_is_left_over():
    assert runbooks().keys() == {name.lower() for name in ALERTS}


def test_the_file_is_taken_by_helm_and_by_prometheus_as_it_is():
    """Templating in it is Prometheus' own, which Helm must not touch: no directive of Helm."""
    assert not re.search(r"\{\{-|\.Values|\.Release|include \"", RULES.read_text())
    done = promtool("check", "rules", RULES)
    assert done.returncode == 0, done.stdout + done.stderr
