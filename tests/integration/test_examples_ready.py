"""Every example of a VM and of a template reaches Ready, in a cluster that has what the examples name."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.templates import Templates
from harness.world import World
from proxmox_operator.kube.resources import PROXMOX_VMS, SECRETS

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "manifests" / "examples").glob("vm-*.yaml"))
TEMPLATES = sorted((ROOT / "manifests" / "examples").glob("template-*.yaml"))
WORLD = {"sim": {"nodes": 3}}
TEMPLATE_OF_VM = ROOT / "manifests" / "examples" / "template-debian.yaml"

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
def lab(world: World) -> World:
    """A cluster with the nodes, storages, bridges, templates and devices of the examples."""
    sim = world.sim
    if sim.server.vm(9001) is None:
        sim.add_storage("ceph", "rbd", size_gib=4000)
        sim.add_template(vmid=9001, storage="ceph")
        for kind, mapping in (("pci", "gpu"), ("usb", "dongle")):
            sim.add_mapping(kind, mapping, list(sim.server.nodes))
        for node in sim.server.nodes:
            sim.set_capacity(node, cpus=32, memory_gib=256)
        world.look()
    return world


@pytest.fixture
def templates(lab: World) -> Iterator[Templates]:
    with Templates(lab) as templates:
        yield templates


def objects(path: Path) -> list[dict[str, Any]]:
    return [raw for raw in yaml.safe_load_all(path.read_text()) if raw]


def apply_template(templates: Templates, path: Path) -> str:
    """Apply an example with a small image on this machine in place of the distribution's; the name."""
    [raw] = objects(path)
    name, spec = raw["metadata"]["name"], raw["spec"]
    if "image" in spec:
        local = templates.image(name, path="/" + spec["image"]["url"].rpartition("/")[2])
        spec["image"] |= {"url": local["url"], "checksum": local["checksum"]}
    templates.apply(name, **spec)
    return str(name)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_an_example_of_a_template_reaches_ready_with_a_local_image_in_its_place(
    lab: World, templates: Templates, path: Path
) -> None:
    [raw] = objects(path)
    spec = raw["spec"]
    if (source := spec.get("fromVM")) is not None:
        lab.sim.add_vm(source["vmid"], node="pve2")
        lab.look()
    copies = templates.wait_ready(apply_template(templates, path), timeout=60)
    if spec.get("distribution") == "OnDemand":
        assert copies == {}
    elif spec.get("storage") == "ceph":
        assert len(copies) == 1
    else:
        assert sorted(copies) == spec.get("nodes", ["pve1", "pve2", "pve3"])


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
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
            assert apply_template(templates, TEMPLATE_OF_VM) == ref["name"]
        lab.kube.apply(PROXMOX_VMS, {"metadata": metadata, "spec": spec})
        if path.name in ONLY_LOOKING:
            status, reason = ONLY_LOOKING[path.name]
            assert lab.wait_reason(metadata["name"], reason, timeout=30).status == status
        else:
            lab.wait_ready(metadata["name"], timeout=30)
    lab.kube.delete(SECRETS, "app-login", lab.namespace)
