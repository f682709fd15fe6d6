"""What people put into their own Git: generated files are fresh, ours are admitted, the order is the one told."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import argohealth
from chartfiles import with_defaults
from controlplane import Cluster

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "manifests"
APPS = MANIFESTS / "argocd" / "app-of-apps"
OF_GIT = sorted((MANIFESTS / "gitops").rglob("*.yaml"))
ALL = sorted([*(MANIFESTS / "argocd").rglob("*.yaml"), *(MANIFESTS / "flux").rglob("*.yaml"), *OF_GIT])
STEPS = ("proxmox-operator", "proxmox-cluster", "proxmox-templates", "proxmox-vms")


def objects(path: Path) -> list[dict[str, Any]]:
    return [raw for raw in yaml.safe_load_all(path.read_text()) if raw]


def by_name(*paths: Path) -> dict[str, dict[str, Any]]:
    return {raw["metadata"]["name"]: raw for path in paths for raw in objects(path)}


def annotations(raw: dict[str, Any]) -> dict[str, str]:
    return dict(raw["metadata"].get("annotations") or {})


def test_the_generated_files_are_those_of_the_scripts() -> None:
    committed = {name: (argohealth.FOLDER / name).read_text() for name in argohealth.files()}
    assert committed == argohealth.files(), "run `make argocd`"


def test_the_patch_and_the_values_hold_the_scripts_as_they_are() -> None:
    [patch], [values] = (objects(argohealth.FOLDER / name) for name in ("argocd-cm.yaml", "values.yaml"))
    assert patch["data"] == values["configs"]["cm"] == argohealth.checks()


def test_the_patch_adds_to_a_configuration_that_is_there(
    control_plane: Cluster, namespace: str, tmp_path: Path
) -> None:
    """By kubectl as by kustomize, which looks for what it patches by name and namespace."""
    patch = str(argohealth.FOLDER / "argocd-cm.yaml")
    there = ("argocd-cm", "-n", namespace)
    create = ("create", "configmap", "argocd-cm", "--from-literal=url=https://example.org")
    base = control_plane.kubectl(*create, "--dry-run=client", "-o", "yaml").stdout
    assert control_plane.kubectl(*create, "-n", namespace).returncode == 0
    patched = control_plane.kubectl("patch", "configmap", *there, "--patch-file", patch)
    assert patched.returncode == 0, patched.stderr
    live = control_plane.kubectl("get", "configmap", *there, "-o", "yaml").stdout
    for name, text in (("base.yaml", base), ("patch.yaml", Path(patch).read_text())):
        (tmp_path / name).write_text(text)
    overlay = {"namespace": "argocd", "resources": ["base.yaml"], "patches": [{"path": "patch.yaml"}]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    built = control_plane.kubectl("kustomize", str(tmp_path))
    assert built.returncode == 0, built.stderr
    for text in (live, built.stdout):
        assert yaml.safe_load(text)["data"] == {"url": "https://example.org", **argohealth.checks()}


@pytest.mark.parametrize("path", ALL, ids=lambda path: str(path.relative_to(MANIFESTS)))
def test_a_manifest_says_what_it_is_and_names_no_host_but_placeholders(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# ")
    for raw in objects(path):
        assert "configs" in raw or {"apiVersion", "kind", "metadata"} <= raw.keys()
    hosts = re.findall(r"\b(?:https?|oci|ssh)://([^/:\s,}]+)", text)
    assert [
        host for host in hosts if host != "kubernetes.default.svc" and not host.endswith("example.org")
    ] == []


@pytest.mark.parametrize("path", OF_GIT, ids=lambda path: str(path.relative_to(MANIFESTS)))
def test_what_git_holds_is_admitted(path: Path, control_plane: Cluster, namespace: str) -> None:
    text = path.read_text().replace("namespace: shop", f"namespace: {namespace}")
    answer = control_plane.kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", input=text
    )
    assert answer.returncode == 0, answer.stderr


def test_argo_cd_takes_its_steps_in_waves_each_after_the_other() -> None:
    apps = by_name(*(APPS / "apps").glob("*.yaml"))
    waves = {name: int(annotations(app)["argocd.argoproj.io/sync-wave"]) for name, app in apps.items()}
    assert sorted(waves, key=lambda name: waves[name]) == list(STEPS)
    assert len(set(waves.values())) == len(STEPS)


def test_flux_takes_the_same_steps_each_once_the_one_before_is_ready() -> None:
    steps = by_name(MANIFESTS / "flux" / "kustomizations.yaml")
    assert tuple(steps) == STEPS
    before = [[each["name"] for each in step["spec"].get("dependsOn", ())] for step in steps.values()]
    assert before == [[], *([name] for name in STEPS[:-1])]
    assert all(step["spec"]["wait"] for step in steps.values())


def test_both_lead_to_folders_that_are_there_and_to_the_same_objects() -> None:
    apps = by_name(APPS / "root.yaml", *(APPS / "apps").glob("*.yaml"))
    steps = by_name(MANIFESTS / "flux" / "kustomizations.yaml")
    del apps["proxmox-operator"]  # the chart, see the next test
    for name, app in apps.items():
        path = app["spec"]["source"]["path"]
        assert list((ROOT / path).glob("*.yaml")), path
        if name in steps:
            assert steps[name]["spec"]["path"] == f"./{path}"


def test_both_install_the_chart_with_values_that_it_takes() -> None:
    app = by_name(APPS / "apps" / "0-operator.yaml")["proxmox-operator"]["spec"]["source"]
    releases = objects(MANIFESTS / "flux" / "operator" / "release.yaml")
    [release] = [raw["spec"] for raw in releases if raw["kind"] == "HelmRelease"]
    assert app["path"] == release["chart"]["spec"]["chart"]
    schema = json.loads((ROOT / app["path"] / "values.schema.json").read_text())
    for values in (app["helm"]["valuesObject"], release["values"]):
        jsonschema.validate(with_defaults(values), schema)
        assert values["crds"]["keep"]


def test_argo_cd_applies_and_compares_by_the_api_server() -> None:
    """Nothing has to be left out of the comparison (test_no_drift.py)."""
    for app in by_name(*(APPS / "apps").glob("*.yaml")).values():
        assert "ServerSideApply=true" in app["spec"]["syncPolicy"]["syncOptions"]
        assert annotations(app)["argocd.argoproj.io/compare-options"] == "ServerSideDiff=true"
        assert "ignoreDifferences" not in app["spec"]


def test_nobody_deletes_vms_by_deleting_what_brought_them() -> None:
    for app in by_name(APPS / "root.yaml", *(APPS / "apps").glob("*.yaml")).values():
        assert "finalizers" not in app["metadata"]
    for step in by_name(MANIFESTS / "flux" / "kustomizations.yaml").values():
        assert step["spec"]["deletionPolicy"] == "Orphan"


def test_as_they_come_both_leave_a_vm_that_is_taken_out_of_git() -> None:
    app = by_name(APPS / "apps" / "3-vms.yaml")["proxmox-vms"]["spec"]["syncPolicy"]
    step = by_name(MANIFESTS / "flux" / "kustomizations.yaml")["proxmox-vms"]["spec"]
    assert app["automated"]["prune"] is step["prune"] is False


def test_a_vm_with_data_and_its_namespace_are_pruned_by_nobody_and_the_vm_is_retained() -> None:
    held = by_name(*(MANIFESTS / "gitops" / "vms").glob("*.yaml"))
    for name in ("database", "shop"):
        said = annotations(held[name])
        assert said["argocd.argoproj.io/sync-options"] == "Prune=false,Delete=false"
        assert said["kustomize.toolkit.fluxcd.io/prune"] == "disabled"
    for vm in (raw for raw in held.values() if raw["kind"] == "ProxmoxVM"):
        assert bool(vm["spec"].get("disks")) == (vm["spec"].get("deletionPolicy") == "Retain")
