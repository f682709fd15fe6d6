"""Values: each is described, each is checked, and what is not known is refused by name."""

import json
import re
from typing import Any

import pytest
import yaml

from chartfiles import CHART

VALUES = (CHART / "values.yaml").read_text()
SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def leaves(values: dict[str, Any], schema: dict[str, Any], path: str = "") -> dict[str, dict[str, Any]]:
    """The values that a person can set, by path, with the schema of each."""
    found: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        here = schema["properties"].get(name)
        assert here is not None, f"{path}{name} is not in values.schema.json"
        inner = here.get("properties")
        if inner and isinstance(value, dict) and name != "settings":
            found |= leaves(value, here, f"{path}{name}.")
        else:
            found[f"{path}{name}"] = here
    return found


def test_values_and_schema_have_the_same_keys():
    def compare(values: dict[str, Any], schema: dict[str, Any], path: str) -> None:
        assert schema["additionalProperties"] is False, path
        assert set(values) == set(schema["properties"]) - {"global"}, path
        for name, inner in schema["properties"].items():
            if "properties" in inner and name != "settings":
                compare(values[name], inner, f"{path}{name}.")

    compare(yaml.safe_load(VALUES), SCHEMA, "")


def test_every_value_has_a_comment():
    described = len(re.findall(r"^ *# -- ", VALUES, re.M))
    assert described == len(leaves(yaml.safe_load(VALUES), SCHEMA))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("replica=2", "replica"),
        ("image.tags=1", "tags"),
        ("settings.leaderElection=false", "leaderElection"),
        ("settings.loglevel=DEBUG", "loglevel"),
        ("replicas=two", "replicas"),
        ("image.digest=latest", "digest"),
        ("watchNamespaces={Team_A}", "watchNamespaces"),
        ("networkPolicy.proxmox.cidrs={10.0.0.1}", "cidrs"),
        ("proxmoxClusters[0].name=lab", "'spec'"),
        ("fullnameOverride=" + "x" * 56, "fullnameOverride"),
        ("extraEnv[0].name=PROXMOX_OPERATOR_LEASE_NAME", "extraEnv"),
        ("metrics.prometheusRule.alertLabels.severity=page", "severity"),
        ("settings.workers=0", "workers"),
        ("settings.workers=true", "workers"),
        ("networkPolicy.proxmox.ports=null", "ports"),
        ("metrics.service=null", "service"),
        ("terminationGracePeriodSeconds=5", "terminationGracePeriodSeconds"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(helm, wrong: str, named: str):
    done = helm("template", "x", str(CHART), "--set", wrong, check=False)
    assert done.returncode != 0
    assert named in done.stderr


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ("metrics.serviceMonitor.enabled=true,metrics.service.enabled=false", "metrics.podMonitor"),
        ("metrics.serviceMonitor.enabled=true,metrics.podMonitor.enabled=true", "choose one"),
        ("serviceAccount.create=false", "serviceAccount.name is needed"),
    ],
)
def test_values_that_contradict_each_other_are_refused_with_the_remedy(helm, values: str, says: str):
    done = helm("template", "x", str(CHART), "--set", values, check=False)
    assert done.returncode != 0
    assert says in done.stderr


def test_helm_lint_finds_nothing(helm):
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART)).stdout
