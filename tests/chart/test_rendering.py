"""Everything that the chart renders is accepted by a real API server, as it is rendered: unknown fields are refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from chart.conftest import NAMESPACE, Helm
from chartfiles import CHART, MANIFESTS
from controlplane import ControlPlane
from gotools import monitoring_crds

MONITORING = ("servicemonitors", "podmonitors", "prometheusrules")
MATRIX: dict[str, dict[str, Any]] = {
    "defaults": {},
    "two replicas": {"replicas": 2},
    "one namespace": {"watchNamespaces": ["default"]},
    "namespaces": {"watchNamespaces": ["team-a", "team-b"]},
    "an account of one's own": {
        "serviceAccount": {"create": False, "name": "mine"},
        "rbac": {"create": False},
    },
    "a digest": {"image": {"registry": "registry.example.org", "digest": f"sha256:{'0' * 64}"}},
    "metrics by service": {
        "metrics": {
            "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}, "interval": "30s"},
            "prometheusRule": {"enabled": True, "alertLabels": {"team": "infra"}},
            "dashboard": {"enabled": True, "annotations": {"folder": "Proxmox"}},
        }
    },
    "metrics by pod": {
        "metrics": {"service": {"enabled": False}, "podMonitor": {"enabled": True, "interval": "1m"}}
    },
    "a closed network": {
        "networkPolicy": {
            "enabled": True,
            "apiServer": {"cidrs": ["10.0.0.1/32"]},
            "proxmox": {"cidrs": ["192.0.2.0/24", "2001:db8::/64"], "ports": [8006, 443]},
            "metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
            "extraEgress": [{"ports": [{"port": 4318, "protocol": "TCP"}]}],
        }
    },
    "admission": {"admissionPolicy": {"enabled": True}},
    "everything about pods": {
        "replicas": 3,
        "settings": {"logLevel": "DEBUG", "workers": 32, "configReread": "10m"},
        "imagePullSecrets": [{"name": "pull"}],
        "commonLabels": {"team": "infra"},
        "annotations": {"a": "b"},
        "podLabels": {"c": "d"},
        "podAnnotations": {"e": "f"},
        "priorityClassName": "system-cluster-critical",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "k", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [
            {
                "topologyKey": "zone",
                "maxSkew": 1,
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {"c": "d"}},
            }
        ],
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.example.org:3128"}],
        "extraEnvFrom": [{"configMapRef": {"name": "env"}}],
        "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ssl/extra"}],
    },
    "objects of one's own": {
        "extraObjects": [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-x"}}
        ],
    },
    "a ProxmoxCluster": {
        "proxmoxClusters": [
            {
                "name": "lab",
                "spec": {
                    "endpoints": ["https://pve1.example.org:8006"],
                    "credentialsSecretRef": {"name": "proxmox-credentials"},
                },
            }
        ],
    },
}


@pytest.fixture(scope="module")
def prepared(server: ControlPlane) -> ControlPlane:
    """It has the kinds of the Prometheus Operator and ours, and the namespaces that values name."""
    for plural in MONITORING:
        server.kubectl(
            "apply", "--server-side", "-f", str(monitoring_crds() / f"monitoring.coreos.com_{plural}.yaml"), check=True
        )  # fmt: skip
    server.install_crds(CHART / "files" / "crds")
    for name in (NAMESPACE, "team-a", "team-b"):
        server.create_namespace(name)
    return server


def render(helm: Helm, tmp_path: Path, values: dict[str, Any]) -> str:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    return helm("template", "proxmox-operator", str(CHART), "-n", NAMESPACE, "-f", str(file)).stdout


def accepted(server: ControlPlane, text: str) -> None:
    done = server.kubectl(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-", input=text
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_the_server_accepts_what_is_rendered(
    helm: Helm, prepared: ControlPlane, tmp_path: Path, values: dict[str, Any]
):
    accepted(prepared, render(helm, tmp_path, values))


def test_the_server_accepts_the_plain_manifests(prepared: ControlPlane):
    accepted(prepared, (MANIFESTS / "install" / "install.yaml").read_text())


@pytest.mark.parametrize("folder", ["install", "overlays/namespaced"])
def test_the_server_accepts_what_kustomize_builds(prepared: ControlPlane, folder: str):
    accepted(prepared, prepared.kubectl("kustomize", str(MANIFESTS / folder), check=True).stdout)


def objects(text: str) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (each["kind"], each["metadata"]["name"]): each
        for each in yaml.safe_load_all(text)
        if each is not None
    }


def test_a_value_that_every_one_of_the_matrix_can_show_is_shown(helm: Helm, tmp_path: Path):
    found = objects(render(helm, tmp_path, MATRIX["everything about pods"]))
    spec = found["Deployment", "proxmox-operator"]["spec"]["template"]["spec"]
    environment = {each["name"]: each.get("value") for each in spec["containers"][0]["env"]}
    assert environment["PROXMOX_OPERATOR_CONFIG_REREAD"] == "10m"
    assert environment["PROXMOX_OPERATOR_WORKERS"] == "32"
    assert environment["HTTPS_PROXY"].endswith(":3128")
    assert spec["topologySpreadConstraints"][0]["topologyKey"] == "zone"
    assert ("PodDisruptionBudget", "proxmox-operator") in found


def test_numbers_of_a_values_file_reach_the_operator_as_they_are_written(helm: Helm, tmp_path: Path):
    settings = {"slowRetry": 1209600, "workers": 32, "tracingRatio": 0.25, "clusterId": "20261101"}
    found = objects(render(helm, tmp_path, {"settings": settings}))
    container = found["Deployment", "proxmox-operator"]["spec"]["template"]["spec"]["containers"][0]
    given = {each["name"].removeprefix("PROXMOX_OPERATOR_"): each["value"] for each in container["env"]}
    assert given == {
        "LEASE_NAME": "proxmox-operator", "SLOW_RETRY": "1209600", "WORKERS": "32", "TRACING_RATIO": "0.25",
        "CLUSTER_ID": "20261101",
    }  # fmt: skip


def test_labels_that_are_given_twice_are_there_once_and_those_that_select_pods_stay(
    helm: Helm, tmp_path: Path
):
    labels = {"team": "b", "app.kubernetes.io/name": "x"}
    text = render(helm, tmp_path, {"commonLabels": {"team": "a"}, "podLabels": labels})
    assert text.count("team: b") == 1
    pod = objects(text)["Deployment", "proxmox-operator"]["spec"]["template"]["metadata"]["labels"]
    assert (pod["team"], pod["app.kubernetes.io/name"]) == ("b", "proxmox-operator")


def test_alerts_keep_their_severity_and_get_the_labels_of_the_values(helm: Helm, tmp_path: Path):
    rules = {"enabled": True, "alertLabels": {"team": "infra"}}
    found = objects(render(helm, tmp_path, {"metrics": {"prometheusRule": rules}}))
    alerts = [
        rule
        for group in found["PrometheusRule", "proxmox-operator"]["spec"]["groups"]
        for rule in group["rules"]
    ]
    assert {alert["labels"]["team"] for alert in alerts} == {"infra"}
    assert {alert["labels"]["severity"] for alert in alerts} == {"critical", "warning", "info"}
    assert "{{ $labels" in "".join(alert["annotations"]["description"] for alert in alerts)


def test_names_that_look_like_numbers_stay_names(helm: Helm, prepared: ControlPlane):
    done = helm("template", "123", str(CHART), "-n", "default", "--set-string", "watchNamespaces={123}")
    server_side = prepared.kubectl("create", "namespace", "123", check=True)
    assert server_side.returncode == 0
    accepted(prepared, done.stdout)


def test_one_pod_has_no_disruption_budget_which_would_block_every_drain(helm: Helm, tmp_path: Path):
    assert not [kind for kind, _ in objects(render(helm, tmp_path, {})) if kind == "PodDisruptionBudget"]


def test_with_namespaces_secrets_are_read_in_no_other(helm: Helm, tmp_path: Path):
    found = objects(render(helm, tmp_path, MATRIX["namespaces"]))
    wide = [each for (kind, _), each in found.items() if kind == "ClusterRole"]
    assert not [rule for role in wide for rule in role["rules"] if "secrets" in rule["resources"]]


def test_the_overlay_for_one_namespace_lets_secrets_be_read_in_no_other(prepared: ControlPlane):
    built = prepared.kubectl("kustomize", str(MANIFESTS / "overlays" / "namespaced"), check=True).stdout
    roles = [each for each in yaml.safe_load_all(built) if each["kind"] in ("Role", "ClusterRole")]
    where = {
        role["metadata"].get("namespace", "everywhere")
        for role in roles
        for rule in role["rules"]
        if "secrets" in rule["resources"]
    }
    assert where == {NAMESPACE, "team-a"}


def test_secrets_are_never_listed_or_watched(helm: Helm, tmp_path: Path):
    for values in MATRIX.values():
        for (kind, _), each in objects(render(helm, tmp_path, values)).items():
            if kind in ("Role", "ClusterRole"):
                for rule in each["rules"]:
                    assert "secrets" not in rule["resources"] or rule["verbs"] == ["get"]
                    assert "*" not in [*rule["resources"], *rule["verbs"], *rule["apiGroups"]]
