"""Every example of a VM reaches Ready, in a cluster that has what the examples name."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.world import World
from proxmox_operator.kube.resources import PROXMOX_VMS, SECRETS

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "manifests" / "examples").glob("vm-*.yaml"))
WORLD = {"sim": {"nodes": 3}}

EXPECTED = {"vm-observe-only.yaml": "ObserveOnly", "vm-adopt.yaml": "Running"}
"""The reason that Ready shows where it is another one than Running."""


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
            lab.sim.add_vm(adopted, running=True)
        lab.kube.apply(PROXMOX_VMS, {"metadata": metadata, "spec": spec})
        if path.name in EXPECTED:
            lab.wait_reason(metadata["name"], EXPECTED[path.name], timeout=30)
        else:
            lab.wait_ready(metadata["name"], timeout=30)
    lab.kube.delete(SECRETS, "app-login", lab.namespace)
