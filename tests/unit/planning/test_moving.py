"""Whether a VM is to be elsewhere, where it goes, and what a person reads when it stays."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxmox_operator.api import ProxmoxVM
from proxmox_operator.api.names import MOVE_TO
from proxmox_operator.planning.access import access_of
from proxmox_operator.planning.moving import (
    Going,
    LocalDisk,
    Precondition,
    Staying,
    Wish,
    cloud_init_may_run_again,
    decide,
    fulfilled,
    requested,
    wish_of,
)
from proxmox_operator.planning.placement import Node, Refusal, Storage, Terms
from unit.planning.make import a_vm, cluster, made

GIB = 1 << 30
EVERYTHING = access_of(cluster({"allow": "Everything"}), {})
CONFIG = {
    "scsi0": "ceph:vm-10000-disk-0,size=8G",
    "ide2": "local-lvm:vm-10000-cloudinit,media=cdrom",
    "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0",
    "memory": "2048",
    "cores": "2",
}
ROOT = LocalDisk(volume="local-lvm:vm-10000-disk-0", slot="scsi0", size=8 * GIB)
SEED = LocalDisk(volume="local-lvm:vm-10000-cloudinit", slot="ide2", size=4 << 20, cdrom=True, generated=True)
ISO = LocalDisk(volume="local:iso/x.iso", slot="ide0", size=0, cdrom=True)


def asked(to: str | None, moved_to: str | None = None, **spec: Any) -> ProxmoxVM:
    """A VM that exists, with the annotation."""
    vm = a_vm(status=made(**({"movedTo": moved_to} if moved_to else {})), **spec)
    annotations = {} if to is None else {MOVE_TO: to}
    return vm.model_copy(update={"metadata": vm.metadata.model_copy(update={"annotations": annotations})})


def require(*nodes: str, **more: Any) -> dict[str, Any]:
    return {"nodes": list(nodes), "mode": "Require", **more}


@pytest.mark.parametrize(
    ("vm", "nodes"),
    [
        pytest.param(asked(None), None, id="nobody said so"),
        pytest.param(asked("pve2"), ("pve2",), id="the annotation"),
        pytest.param(asked(" pve2 "), ("pve2",), id="with blanks around"),
        pytest.param(asked(""), None, id="an empty one"),
        pytest.param(asked("pve1"), None, id="it is there already"),
        pytest.param(asked("pve2", "pve2"), None, id="that was fulfilled once, and it went elsewhere since"),
        pytest.param(asked("pve3", "pve2"), ("pve3",), id="another value than the last"),
        pytest.param(asked(None, placement={"nodes": ["pve2"]}), None, id="a mere preference"),
        pytest.param(asked(None, placement=require("pve1", "pve2")), None, id="required where it is"),
        pytest.param(asked(None, placement=require("pve2", "pve3")), ("pve2", "pve3"), id="required elsewhere"),
        pytest.param(asked("pve2", placement=require("pve2", "pve3")), ("pve2",), id="both: the annotation is finer"),
        pytest.param(asked("pve9", placement=require("pve2")), ("pve2",), id="both at odds: what is required"),
        pytest.param(asked("pve9", placement=require("pve1")), ("pve9",), id="at odds, and refused later"),
        pytest.param(
            asked(None, placement={"spreadBy": "app", "mode": "Require"}), None, id="company moves nothing"
        ),
    ],
)  # fmt: skip
def test_who_says_that_it_is_to_be_elsewhere(vm, nodes):
    wish = wish_of(vm, "pve1")
    assert (wish and wish.nodes) == nodes


@pytest.mark.parametrize(
    ("vm", "recorded"),
    [
        (asked(None, "pve2"), None),
        (asked("pve2", "pve3"), "pve3"),
        (asked("pve1", "pve3"), "pve1"),
        (asked("pve2", "pve2"), "pve2"),
    ],
    ids=["taken back", "not yet there", "there", "there once"],
)
def test_a_wish_is_over_once_it_was_fulfilled_or_is_taken_back(vm, recorded):
    assert fulfilled(vm, "pve1") == recorded


def node(name, free=16, *, online=True, bridges=("vmbr0",), space=100, mappings=None):
    def storage(sid, kind):
        return Storage(
            name=sid, shared=kind == "rbd", type=kind, content=frozenset({"images"}), size=200 * GIB,
            free=space * GIB,
        )  # fmt: skip

    return Node(
        name=name,
        online=online,
        memory_free=free * GIB,
        storages={"local-lvm": storage("local-lvm", "lvmthin"), "ceph": storage("ceph", "rbd")},
        bridges=frozenset(bridges),
        mappings=mappings,
    )


NODES = (node("pve1", 0), node("pve2", 16), node("pve3", 8))
RUNS = Precondition(running=True, disks=(SEED,))


def decided(
    to: str | tuple[str, ...] = "pve2",
    check: Precondition = RUNS,
    nodes: Any = NODES,
    config: Any = CONFIG,
    failed: Any = None,
    access: Any = EVERYTHING,
    **spec: Any,
) -> Going | Staying:
    vm = a_vm(status=made(), **spec)
    wish = Wish(nodes=(to,) if isinstance(to, str) else to, cause="the test")
    terms = Terms(access=access, placement=vm.spec.placement)
    return decide(vm, wish, config, check, nodes, terms, home="pve1", failed=failed or {})


@pytest.mark.parametrize(
    ("arguments", "target", "live", "disks"),
    [
        pytest.param({}, "pve2", True, False, id="live"),
        pytest.param({"check": Precondition(running=False, disks=(SEED,))}, "pve2", False, False, id="stopped"),
        pytest.param({"to": ("pve3", "pve2")}, "pve2", True, False, id="the best of several"),
        pytest.param(
            {"to": ("pve3", "pve2"), "failed": {"pve2": Refusal(reason="MoveFailed", message="no")}},
            "pve3", True, False, id="another than the one that has failed",
        ),
        pytest.param(
            {"to": ("pve2", "pve3"), "check": replace(RUNS, refused={"pve2": "no"})},
            "pve3", True, False, id="another than the one Proxmox refuses",
        ),
        pytest.param(
            {"check": replace(RUNS, disks=(ROOT, SEED)), "placement": {"nodes": ["pve1"], "moveLocalDisks": True}},
            "pve2", True, True, id="local disks, where that is allowed",
        ),
        pytest.param(
            {"check": replace(RUNS, devices=("usb0",), mapped={"usb0": False}, running=False)},
            "pve2", False, False, id="a mapped device of a stopped VM",
        ),
        pytest.param(
            {"check": replace(RUNS, devices=("hostpci0",), mapped={"hostpci0": True})},
            "pve2", True, False, id="a device that can move live",
        ),
    ],
)  # fmt: skip
def test_where_it_goes(arguments, target, live, disks):
    found = decided(**arguments)
    assert isinstance(found, Going), found
    assert (found.target, found.live, found.local_disks) == (target, live, disks)


SNAPPED = replace(ROOT, snapshots=("before",))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param({"to": "pve9"}, "pve9: there is no node of this name: correct the annotation", id="no node"),
        pytest.param(
            {"to": ("pve9",), "placement": require("pve9")}, "pve9: there is no node of this name: correct spec",
            id="no required node",
        ),
        pytest.param({"nodes": [node("pve2", online=False)]}, "pve2: offline", id="offline"),
        pytest.param(
            {"access": access_of(cluster({"nodes": ["pve1"]}), {})}, "pve2: not granted to this namespace",
            id="not granted",
        ),
        pytest.param({"placement": require("pve1")}, "pve2: not listed in spec.placement.nodes", id="not listed"),
        pytest.param({"nodes": [node("pve2", 1)]}, "pve2: 2Gi of memory wanted", id="memory"),
        pytest.param(
            {"nodes": [node("pve2", bridges=())]}, "pve2: bridge vmbr0 (its net0) does not exist there", id="bridge"
        ),
        pytest.param(
            {"nodes": [replace(node("pve2"), storages={})]},
            "pve2: storage ceph (its scsi0), storage local-lvm (its ide2) is not available there",
            id="storages",
        ),
        pytest.param(
            {"config": CONFIG | {"hostpci0": "mapping=gpu,pcie=1"}, "nodes": [node("pve2", mappings=frozenset())]},
            "pve2: pci mapping gpu (its hostpci0) has no device there", id="mapping",
        ),
        pytest.param({"check": replace(RUNS, refused={"pve2": "HA says no"})}, "pve2: HA says no", id="Proxmox"),
        pytest.param(
            {"check": replace(RUNS, disks=(ROOT,))},
            "scsi0 (local-lvm:vm-10000-disk-0) is on storage that only this node has: set spec.placement",
            id="a local disk",
        ),
        pytest.param(
            {"check": replace(RUNS, disks=(ROOT,)), "nodes": [node("pve2", space=4)],
             "placement": {"nodes": ["pve1"], "moveLocalDisks": True}},
            "pve2: storage local-lvm has 4Gi left, 8Gi is needed", id="no space for a local disk",
        ),
        pytest.param(
            {"check": replace(RUNS, disks=(SNAPPED,)), "placement": {"nodes": ["pve1"], "moveLocalDisks": True}},
            "snapshot before holds scsi0", id="a snapshot of a local disk",
        ),
        pytest.param({"check": replace(RUNS, disks=(ISO,))}, "ide0 (local:iso/x.iso) is a CD-ROM", id="an ISO"),
        pytest.param(
            {"check": replace(RUNS, disks=(replace(ISO, slot=None, snapshots=("a", "b")),))},
            "local:iso/x.iso is a CD-ROM on storage that only this node has: eject it, or put the image on shared "
            "storage (snapshot a, b refers to it)",
            id="an ISO that a snapshot refers to",
        ),
        pytest.param({"check": replace(RUNS, devices=("usb0",))}, "usb0 is a device of this node", id="a device"),
        pytest.param(
            {"check": replace(RUNS, devices=("hostpci0",), mapped={"hostpci0": False})},
            "hostpci0 cannot be moved while the VM runs: stop the VM", id="a mapped device in use",
        ),
    ],
)  # fmt: skip
def test_why_it_stays(arguments, words):
    found = decided(**arguments)
    assert isinstance(found, Staying), found
    assert (found.reason, found.waits) == ("MoveRefused", None)
    assert found.message.startswith("VM 10000 stays on pve1 (the test): ")
    assert words in found.message


def test_everything_that_stands_in_the_way_is_named_at_once():
    check = Precondition(running=True, disks=(ROOT, ISO), devices=("usb0",))
    message = decided(check=check, nodes=[node("pve2", online=False)]).message
    for words in ("scsi0", "ide0", "usb0 is a device", "pve2: offline"):
        assert words in message


def test_a_move_that_has_failed_is_told_apart_from_one_that_is_refused():
    found = decided(failed={"pve2": Refusal(reason="MoveFailed", message="the move has failed: no route")})
    assert isinstance(found, Staying)
    assert found.reason == "MoveFailed"
    assert "pve2: the move has failed: no route" in found.message


def test_a_stopped_vm_that_stays_stopped_takes_no_memory():
    small = [node("pve2", 0)]
    stopped = Precondition(running=False)
    assert isinstance(decided(check=stopped, nodes=small, power="Stopped"), Going)
    assert isinstance(decided(check=stopped, nodes=small, power="Running"), Staying)
    assert isinstance(decided(nodes=small, power="Stopped"), Staying)


def test_cloud_init_depends_on_the_node_only_without_a_name_server():
    assert cloud_init_may_run_again(CONFIG)
    assert not cloud_init_may_run_again(CONFIG | {"nameserver": "192.0.2.1"})
    assert not cloud_init_may_run_again({"scsi0": "ceph:vm-10000-disk-0"})


NAMES = st.sampled_from(("pve1", "pve2", "pve3", "pve9", ""))


@settings(deadline=None)
@given(
    to=st.none() | NAMES,
    moved_to=st.none() | NAMES,
    at=NAMES.filter(bool),
    required=st.lists(NAMES.filter(bool)),
)
def test_a_wish_is_never_for_the_node_that_it_is_on_nor_for_one_that_was_fulfilled(
    to, moved_to, at, required
):
    vm = asked(to, moved_to or None, **({"placement": require(*required)} if required else {}))
    wish = wish_of(vm, at)
    if wish is None:
        return
    assert at not in wish.nodes
    if wish.nodes == (requested(vm),) and at in (required or [at]):
        assert vm.status.moved_to != requested(vm)


DISK = st.builds(
    LocalDisk,
    volume=st.sampled_from(("local-lvm:vm-10000-disk-0", "local:iso/x.iso", "cdrom")),
    slot=st.sampled_from(("scsi0", None)),
    size=st.sampled_from((0, 8 * GIB)),
    cdrom=st.booleans(),
    generated=st.booleans(),
    snapshots=st.sampled_from(((), ("before",))),
)


@settings(deadline=None)
@given(
    disks=st.lists(DISK, max_size=3),
    devices=st.lists(st.sampled_from(("usb0", "hostpci0")), unique=True),
    mapped=st.dictionaries(st.sampled_from(("usb0", "hostpci0")), st.booleans()),
    running=st.booleans(),
    allowed=st.booleans(),
    refused=st.dictionaries(st.sampled_from(("pve2", "pve3")), st.just("no")),
    to=st.lists(NAMES.filter(bool), min_size=1, unique=True),
)
def test_nothing_is_left_behind_without_leave(disks, devices, mapped, running, allowed, refused, to):
    check = Precondition(
        running=running, refused=refused, disks=tuple(disks), devices=tuple(devices), mapped=mapped
    )
    placement = {"placement": {"nodes": ["pve1"], "moveLocalDisks": allowed}}
    found = decided(to=tuple(to), check=check, **placement)
    if isinstance(found, Staying):
        assert found.message
        return
    assert found.target in to
    assert found.target not in refused
    assert found.live is running
    assert all(disk.generated for disk in disks if disk.cdrom)
    assert allowed or all(disk.generated for disk in disks)
    assert found.local_disks is (allowed and any(not disk.cdrom for disk in disks))
    assert all(device in mapped and (mapped[device] or not running) for device in devices)
