"""Every example of a VM reaches Ready, in a cluster that has what the examples name."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.templates import Templates
from harness.world import World
from proxmox_operator.kube.resources import PROXMOX_VMS, SECRETS, VM_TEMPLATES

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "manifests" / "examples").glob("vm-*.yaml"))
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


@pytest.fixture(autouse=True, scope="module")
def debian_12(shared_world: World) -> Iterator[None]:
    """The VMTemplate that an example names."""
    with Templates(shared_world) as templates:
        spec = {"clusterRef": {"name": shared_world.cluster}, "image": templates.image()}
        shared_world.kube.apply(VM_TEMPLATES, {"metadata": {"name": "debian-12"}, "spec": spec})
        templates.wait_ready("debian-12")
        yield
        shared_world.remove(VM_TEMPLATES, "debian-12")


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
    return world


def objects(path: Path) -> list[dict[str, Any]]:
    return [raw for raw in yaml.safe_load_all(path.read_text()) if raw]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_reaches_ready(lab: World, path: Path) -> None:
    for raw in objects(path):
        metadata = {**raw["metadata"], "namespace": lab.namespace}
        if raw["kind"] == "Secret":
            lab.set_secret(name=metadata["name"], namespace=lab.namespace, password="an example's")
            continue
        spec = {**raw["spec"], "clusterRef": {"name": lab.cluster}}
        if (adopted := (spec["source"].get("adopt") or {}).get("vmid")) is not None:
            lab.sim.add_vm(adopted, running=True, **BY_HAND)
        lab.kube.apply(PROXMOX_VMS, {"metadata": metadata, "spec": spec})
        if path.name in ONLY_LOOKING:
            status, reason = ONLY_LOOKING[path.name]
            assert lab.wait_reason(metadata["name"], reason, timeout=30).status == status
        else:
            lab.wait_ready(metadata["name"], timeout=30)
    lab.kube.delete(SECRETS, "app-login", lab.namespace)
