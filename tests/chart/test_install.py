"""Installed, upgraded, rolled back, uninstalled on a real API server: objects stay, whatever happens to the release."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart.conftest import NAMESPACE, Helm
from chartfiles import CHART, MANIFESTS, ROOT
from controlplane import ControlPlane

RELEASE = ("proxmox-operator", "-n", NAMESPACE)
VM = MANIFESTS / "examples" / "vm-minimal.yaml"
FINALIZED = '{"metadata": {"finalizers": ["proxmox-operator.io/finalizer"]}}'


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart as an earlier version: another number, and a CRD that lacks a field and a column of today."""
    copy = tmp_path_factory.mktemp("earlier") / CHART.name
    shutil.copytree(CHART, copy)
    meta = yaml.safe_load((copy / "Chart.yaml").read_text())
    (copy / "Chart.yaml").write_text(yaml.safe_dump(meta | {"version": "0.0.9", "appVersion": "0.0.9"}))
    path = copy / "files" / "crds" / "proxmoxvms.yaml"
    crd = yaml.safe_load(path.read_text())
    del schema(crd)["spec"]["properties"]["description"]
    path.write_text(yaml.safe_dump(crd))
    return copy


def schema(crd: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    return found


def read(server: ControlPlane, *what: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(server.kubectl("get", *what, "-o", "json", check=True).stdout)
    return found


def test_a_life_of_a_release_leaves_every_object_as_it_was(helm: Helm, server: ControlPlane, earlier: Path):
    said = helm("install", *RELEASE, str(earlier), "--create-namespace", cluster=server).stdout
    assert "rollout status deployment/proxmox-operator" in said
    assert "create secret generic proxmox-credentials" in said
    server.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s", check=True)
    server.kubectl("apply", "-f", str(VM), check=True)
    server.kubectl("patch", "-f", str(VM), "--type=merge", "-p", FINALIZED, check=True)
    vm = read(server, "-f", str(VM))
    assert (
        "description"
        not in schema(read(server, "crd", "proxmoxvms.proxmox-operator.io"))["spec"]["properties"]
    )

    helm("upgrade", *RELEASE, str(CHART), "--set", "replicas=2", cluster=server)
    assert read(server, "-f", str(VM)) == vm
    assert (
        "description" in schema(read(server, "crd", "proxmoxvms.proxmox-operator.io"))["spec"]["properties"]
    )
    assert read(server, "-n", NAMESPACE, "deployment", "proxmox-operator")["spec"]["replicas"] == 2
    assert read(server, "-n", NAMESPACE, "pdb", "proxmox-operator")["spec"]["maxUnavailable"] == 1

    helm("rollback", *RELEASE, "1", cluster=server)
    assert read(server, "-f", str(VM)) == vm
    assert read(server, "-n", NAMESPACE, "deployment", "proxmox-operator")["spec"]["replicas"] == 1
    assert server.kubectl("-n", NAMESPACE, "get", "pdb", "proxmox-operator").returncode != 0

    helm("upgrade", *RELEASE, str(CHART), "--reset-values", cluster=server)
    server.kubectl(
        "patch", "-f", str(VM), "--type=merge", "-p", '{"spec": {"description": "kept"}}', check=True
    )
    helm("upgrade", *RELEASE, str(earlier), "--set", "crds.enabled=false", cluster=server)
    server.kubectl("label", "-f", str(VM), "written=since", check=True)
    vm = read(server, "-f", str(VM))
    assert vm["spec"]["description"] == "kept", "the documented way back keeps what only the newer CRD knows"
    deployed = read(server, "-n", NAMESPACE, "deployment", "proxmox-operator")
    assert deployed["metadata"]["labels"]["app.kubernetes.io/version"] == "0.0.9"

    helm("upgrade", *RELEASE, str(CHART), "--reset-values", cluster=server)
    kept = helm("uninstall", *RELEASE, cluster=server).stdout
    assert "proxmoxvms.proxmox-operator.io" in kept
    assert read(server, "-f", str(VM)) == vm
    assert server.kubectl("-n", NAMESPACE, "get", "deployment", "proxmox-operator").returncode != 0
    assert server.kubectl("get", "clusterrole", "proxmox-operator").returncode != 0

    helm("install", *RELEASE, str(CHART), cluster=server)
    assert read(server, "-f", str(VM)) == vm
    helm("uninstall", *RELEASE, cluster=server)
    server.kubectl(
        "patch", "-f", str(VM), "--type=merge", "-p", '{"metadata": {"finalizers": null}}', check=True
    )

    other = ("another", "-n", NAMESPACE)
    assert "cannot be imported" in helm("install", *other, str(CHART), cluster=server, check=False).stderr
    helm("install", *other, str(CHART), "--take-ownership", cluster=server)
    assert read(server, "-f", str(VM))["metadata"]["uid"] == vm["metadata"]["uid"]
    helm("uninstall", *other, cluster=server)


def test_a_cluster_comes_with_an_upgrade_and_stays_without_its_value(
    helm: Helm, server: ControlPlane, tmp_path: Path
):
    values = tmp_path / "values.yaml"
    spec = {
        "endpoints": ["https://pve1.example.org:8006"],
        "credentialsSecretRef": {"name": "proxmox-credentials"},
    }
    values.write_text(yaml.safe_dump({"proxmoxClusters": [{"name": "lab", "spec": spec}]}))
    helm("install", *RELEASE, str(CHART), "--create-namespace", "--take-ownership", cluster=server)
    helm("upgrade", *RELEASE, str(CHART), "-f", str(values), cluster=server)
    made = read(server, "pvec", "lab")
    assert made["spec"]["endpoints"] == spec["endpoints"]
    helm("upgrade", *RELEASE, str(CHART), "--reset-values", cluster=server)
    assert read(server, "pvec", "lab")["metadata"]["uid"] == made["metadata"]["uid"]
    helm("uninstall", *RELEASE, cluster=server)
    assert read(server, "pvec", "lab")["metadata"]["uid"] == made["metadata"]["uid"]


def test_the_plain_manifests_can_be_taken_away_without_any_object_being_deleted(server: ControlPlane):
    folder = str(MANIFESTS / "install")
    server.install_crds(ROOT / "crds")
    server.kubectl("apply", "--server-side", "--force-conflicts", "-k", folder, check=True)
    assert read(server, "-n", NAMESPACE, "deployment", "proxmox-operator")["spec"]["replicas"] == 1
    server.kubectl("apply", "-f", str(VM), check=True)
    vm = read(server, "-f", str(VM))
    server.kubectl("delete", "-k", folder, "--timeout=60s", check=True)
    assert read(server, "-f", str(VM)) == vm
