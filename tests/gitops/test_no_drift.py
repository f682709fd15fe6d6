"""Every example reaches Ready, in a cluster that has what the examples name, and is no drift before and after.

What Argo CD's server-side diff asks is asked here: a server-side apply that is not carried out, beside the object.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.conditions import is_ready, lines
from harness.kubeapi import Raw, Refused
from harness.templates import Templates
from harness.world import World
from proxmox_operator.api.names import FINALIZER
from proxmox_operator.kube.resources import PROXMOX_CLUSTERS, PROXMOX_VMS, SECRETS, VM_TEMPLATES, Resource

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
EXAMPLES = MANIFESTS / "examples"
OF_GIT = MANIFESTS / "gitops"
CLUSTERS = sorted([*EXAMPLES.glob("cluster-*.yaml"), *(OF_GIT / "cluster").glob("*.yaml")])
TEMPLATES = sorted([*EXAMPLES.glob("template-*.yaml"), *(OF_GIT / "templates").glob("*.yaml")])
VMS = sorted([*EXAMPLES.glob("vm-*.yaml"), OF_GIT / "vms" / "web.yaml", OF_GIT / "vms" / "database.yaml"])
TEMPLATE_OF_VM = EXAMPLES / "template-debian.yaml"

GIT, ANOTHER = "argocd-controller", "kustomize-controller"
WORLD = {"sim": {"nodes": 3}}

ONLY_LOOKING = {"vm-observe-only.yaml": ("False", "ObserveOnly"), "vm-adopt.yaml": ("True", "Running")}
"""Examples that record no VM of theirs, and what Ready says then."""

BY_HAND: dict[str, Any] = {
    "cores": 2,
    "memory": "4096",
    "net0": "virtio,bridge=vmbr0,tag=20,firewall=1",
    "scsi1": "local-lvm:100,discard=on",
}
"""The VM that an example takes over."""


@pytest.fixture
def lab(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A cluster with the nodes, storages, bridges, templates and devices of the examples; Git applies to it."""
    sim = world.sim
    if sim.server.vm(9001) is None:
        sim.add_storage("ceph", "rbd", size_gib=4000)
        sim.add_template(vmid=9001, storage="ceph")
        sim.add_pool("tenants")
        for kind, mapping in (("pci", "gpu"), ("usb", "dongle")):
            sim.add_mapping(kind, mapping, list(sim.server.nodes))
        for node in sim.server.nodes:
            sim.set_capacity(node, cpus=32, memory_gib=256)
        world.look()
    monkeypatch.setattr(world.kube, "manager", GIT)
    return world


@pytest.fixture
def templates(lab: World) -> Iterator[Templates]:
    with Templates(lab) as templates:
        yield templates


def objects(path: Path) -> list[Raw]:
    return [raw for raw in yaml.safe_load_all(path.read_text()) if raw]


def name_of(path: Path) -> str:
    return str(path.relative_to(MANIFESTS))


def assert_no_drift(world: World, resource: Resource, manifest: Raw) -> None:
    """What Git holds is what there is: asked by whoever applied it and by another, then applied once more."""
    for manager in (GIT, ANOTHER):
        live, would = compared(world, resource, manifest, manager)
        assert without_owners(would) == without_owners(live), f"drift, as {manager} sees it"
    before = live["metadata"]["generation"]
    again = world.kube.apply(resource, manifest)
    assert again["metadata"]["generation"] == before
    assert again["spec"] == live["spec"]


def compared(world: World, resource: Resource, manifest: Raw, manager: str) -> tuple[Raw, Raw]:
    """The object, and what it would be: of one version, as the operator may write its status meanwhile."""
    metadata = manifest["metadata"]
    found: list[tuple[Raw, Raw]] = []

    def undisturbed() -> bool:
        live = world.kube.get(resource, metadata["name"], metadata.get("namespace", ""))
        assert live is not None
        would = world.kube.would_apply(resource, manifest, manager=manager)
        found[:] = [(live, would)]
        return bool(live["metadata"]["resourceVersion"] == would["metadata"]["resourceVersion"])

    world.wait_until(undisturbed, f"{metadata['name']} has come to rest")
    return found[0]


def without_owners(raw: Raw) -> Raw:
    """Whose each field is differs by who asks; nothing else may."""
    return {
        **raw,
        "metadata": {key: value for key, value in raw["metadata"].items() if key != "managedFields"},
    }


def apply_template(templates: Templates, path: Path) -> Raw:
    """Apply an example with a small image on this machine in place of the distribution's; what was applied."""
    [raw] = objects(path)
    name, spec = raw["metadata"]["name"], raw["spec"]
    if "image" in spec:
        local = templates.image(name, path="/" + spec["image"]["url"].rpartition("/")[2])
        spec["image"] |= {"url": local["url"], "checksum": local["checksum"]}
    return templates.apply(name, **spec)


@pytest.mark.parametrize("path", CLUSTERS, ids=name_of)
def test_an_example_of_a_cluster_reaches_ready_with_a_simulator_in_its_place(lab: World, path: Path) -> None:
    [raw] = objects(path)
    here = lab.cluster_raw()
    assert here is not None
    ours = {key: here["spec"][key] for key in ("endpoints", "credentialsSecretRef", "tls")}
    manifest = {"metadata": raw["metadata"], "spec": {**raw["spec"], **ours}}
    name = lab.kube.apply(PROXMOX_CLUSTERS, manifest)["metadata"]["name"]
    try:
        assert_no_drift(lab, PROXMOX_CLUSTERS, manifest)
        lab.wait_until(
            lambda: is_ready(lab.kube.get(PROXMOX_CLUSTERS, name)),
            f"ProxmoxCluster {name} is Ready",
            seen=lambda: "\n".join(lines(lab.kube.get(PROXMOX_CLUSTERS, name))),
        )
        assert_no_drift(lab, PROXMOX_CLUSTERS, manifest)
    finally:
        lab.remove(PROXMOX_CLUSTERS, name)


@pytest.mark.parametrize("path", TEMPLATES, ids=name_of)
def test_an_example_of_a_template_reaches_ready_with_a_local_image_in_its_place(
    lab: World, templates: Templates, path: Path
) -> None:
    [raw] = objects(path)
    spec = raw["spec"]
    if (source := spec.get("fromVM")) is not None:
        lab.sim.add_vm(source["vmid"], node="pve2")
        lab.look()
    manifest = apply_template(templates, path)
    assert_no_drift(lab, VM_TEMPLATES, manifest)
    copies = templates.wait_ready(manifest["metadata"]["name"], timeout=60)
    if spec.get("distribution") == "OnDemand":
        assert copies == {}
    elif spec.get("storage") == "ceph":
        assert len(copies) == 1
    else:
        assert sorted(copies) == spec.get("nodes", ["pve1", "pve2", "pve3"])
    assert_no_drift(lab, VM_TEMPLATES, manifest)


@pytest.mark.parametrize("path", VMS, ids=name_of)
def test_an_example_reaches_ready(lab: World, templates: Templates, path: Path) -> None:
    for raw in objects(path):
        metadata = {**raw["metadata"], "namespace": lab.namespace}
        if raw["kind"] == "Secret":
            lab.set_secret(name=metadata["name"], namespace=lab.namespace, password="an example's")
            continue
        spec = {**raw["spec"], "clusterRef": {"name": lab.cluster}}
        if (adopted := (spec["source"].get("adopt") or {}).get("vmid")) is not None:
            lab.sim.add_vm(adopted, running=True, **BY_HAND)
        if (ref := spec["source"].get("templateRef")) is not None:
            assert apply_template(templates, TEMPLATE_OF_VM)["metadata"]["name"] == ref["name"]
        manifest = {"metadata": metadata, "spec": spec}
        lab.kube.apply(PROXMOX_VMS, manifest)
        assert_no_drift(lab, PROXMOX_VMS, manifest)
        if path.name in ONLY_LOOKING:
            status, reason = ONLY_LOOKING[path.name]
            assert lab.wait_reason(metadata["name"], reason, timeout=30).status == status
        else:
            lab.wait_ready(metadata["name"], timeout=30)
        assert_no_drift(lab, PROXMOX_VMS, manifest)
    lab.kube.delete(SECRETS, "app-login", lab.namespace)


def test_what_the_operator_and_a_person_add_to_an_object_is_no_drift(lab: World) -> None:
    manifest = lab.manifest(lab.name("web"), cpu={"cores": 2})
    name = lab.kube.apply(PROXMOX_VMS, manifest)["metadata"]["name"]
    lab.wait_ready(name)
    lab.annotate(name, **{"proxmox-operator.io/restart": "for a try"})
    lab.wait_until(lambda: lab.status(name).get("restartedFor") == "for a try", "it was restarted", name)
    lab.wait_ready(name)
    raw = lab.raw(name)
    assert raw is not None
    assert FINALIZER in raw["metadata"]["finalizers"]
    assert_no_drift(lab, PROXMOX_VMS, manifest)


def test_a_change_by_hand_of_what_git_holds_is_seen_as_drift_and_taken_back(lab: World) -> None:
    """That the comparison above can see a difference at all."""
    manifest = lab.manifest(lab.name("web"), cpu={"cores": 2})
    name = lab.kube.apply(PROXMOX_VMS, manifest)["metadata"]["name"]
    lab.wait_ready(name)
    lab.edit(name, cpu={"cores": 4})
    lab.wait_ready(name)
    with pytest.raises(Refused, match=r"conflict.*\.spec\.cpu\.cores"):
        assert_no_drift(lab, PROXMOX_VMS, manifest)
    lab.kube.apply(PROXMOX_VMS, manifest)
    vmid = lab.wait_ready(name)
    assert str(lab.sim.vm(vmid).config["cores"]) == "2"
    assert_no_drift(lab, PROXMOX_VMS, manifest)
