"""What the plan promises, done in the simulator: the config becomes what the spec says, and each change takes effect
when the table of effects says so. This is the proof of that table; no API server and no operator is needed.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from proxmox_operator.api import ProxmoxVM
from proxmox_operator.planning import disks
from proxmox_operator.planning.diskfacts import DiskFacts
from proxmox_operator.planning.vmconfig import (
    ConfigDiff,
    Put,
    Remove,
    Wanted,
    diff,
    disk_records,
    password_reference,
    recorded_networks,
)
from proxmox_operator.planning.vmconfig.effects import Effect
from pvesim import PveSim
from pvesim.client import Api
from unit.planning.generated import DISK, HARDWARE, HARDWARE_CONFIG, MACS, NETWORK, hardware_keys, some
from unit.planning.make import MARK, a_vm, made

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEqS0aPY8NXhJ1pcnXUHDoGM0rvK7Fq3qGtbkyZKnJPa me@x"
EXAMPLES = 40

GUEST = some(
    name=st.just("front"),
    description=st.sampled_from(("", "Zeile äöü\n\n  -- <b>☃</b>", "x" * 7000)),
    tags=st.lists(st.sampled_from(("web", "prod", "a.b")), unique=True),
    cloudInit=some(
        user=st.just("debian"),
        sshKeys=st.just([KEY]),
        passwordSecretRef=st.just({"name": "login"}),
        upgradePackages=st.booleans(),
        dns=st.just({"servers": ["10.0.0.1"], "searchDomains": ["example.org"]}),
    ),
    bootDisk=DISK,
)


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(("net0", "net1")), unique=True))
    listed = draw(st.lists(st.sampled_from(("data", "logs")), unique=True))
    return {
        **draw(GUEST),
        **draw(HARDWARE),
        "networks": [{"name": name, **draw(NETWORK)} for name in names],
        "disks": [{"name": name, "size": "5Gi", **draw(DISK)} for name in listed],
    }


@st.composite
def configs(draw: st.DrawFn) -> dict[str, str]:
    """A config as others have made it, in the simulator's terms: a new volume is ``storage:GiB``."""
    mac = draw(MACS)
    there = some(
        tags=st.sampled_from(("Prod;db", "web,zoo")),
        ide2=st.just("local-lvm:cloudinit"),
        scsi1=st.sampled_from(
            ("local-lvm:5,serial=data,ssd=on,aio=native,mbps_rd=9.5", "local-lvm:5,serial=logs,cache=none")
        ),
        scsi2=st.just("local-lvm:1,backup=0"),
        net0=st.sampled_from((f"virtio={mac},bridge=vmbr0,queues=1", f"bridge=vmbr1,rate=5,e1000={mac}")),
        net3=st.just("virtio=BC:24:11:BB:00:01,bridge=vmbr0"),
        ipconfig0=st.sampled_from(("ip=dhcp", "gw=10.0.0.1,ip=10.0.0.5/24")),
        ciuser=st.sampled_from(("debian", "root")),
        nameserver=st.just("9.9.9.9"),
    )
    usual = {"cores": "4", "memory": "2048", "ostype": "l26", "boot": "order=scsi0"}
    return {**usual, **draw(there), **draw(HARDWARE_CONFIG)}


CASES = st.tuples(specs(), configs())


class Proxmox:
    """The simulator, a client with the operator's rights, and a fresh VMID for each example."""

    def __init__(self, sim: PveSim, api: Api) -> None:
        self.sim = sim
        self._api = api
        self._last = 1000

    def make(self, config: dict[str, str], *, running: bool) -> int:
        self._last += 1
        keys: dict[str, Any] = dict(config)
        self.sim.add_vm(self._last, running=running, **keys)
        return self._last

    def config(self, vmid: int) -> dict[str, str]:
        """As the operator reads it: pending values merged, all of it text."""
        return _text(self._api.config(vmid))

    def current(self, vmid: int) -> DiskFacts:
        """As it runs, without what waits for a boot."""
        return DiskFacts(current=_text(self._api.get(f"/nodes/pve1/qemu/{vmid}/config", current=1)))

    def pending(self, vmid: int) -> set[str]:
        items = self._api.get(f"/nodes/pve1/qemu/{vmid}/pending")
        return {item["key"] for item in items if "pending" in item or "delete" in item}

    def write(self, vmid: int, found: ConfigDiff) -> None:
        changes = {put.key: "geheim" if put.value is None else put.value for put in found.puts}
        if "sshkeys" in changes:
            changes["sshkeys"] = quote(changes["sshkeys"], safe="")
        if removed := ",".join(removal.key for removal in found.removes):
            changes["delete"] = removed
        if changes:
            self._api.set(vmid, **changes)
        for grow in found.grows:
            self._api.put(f"/nodes/pve1/qemu/{vmid}/resize", disk=grow.slot, size=str(grow.size))

    def instance_id(self, vmid: int) -> str | None:
        """What cloud-init would tell the guest if it booted now; None without a drive for it."""
        vm = self.sim.vm(vmid)
        self.sim.call(lambda: self.sim.server.generate_seed(vm))
        return str(vm.seed["instance_id"]) if vm.seed is not None else None


def _text(config: dict[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in config.items() if key != "digest"}


@pytest.fixture(scope="module")
def proxmox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxmox]:
    with PveSim(nodes=1) as sim:
        sim.resize_storage("local-lvm", size_gib=100_000)
        for kind, name in (("pci", "gpu"), ("pci", "nic"), ("pci", "old"), ("usb", "dongle")):
            sim.add_mapping(kind, name, ["pve1"])
        folder: Path = tmp_path_factory.mktemp("ca")
        with Api(sim, folder) as api:
            yield Proxmox(sim, api)


def wish(proxmox: Proxmox, vmid: int, spec: dict[str, Any], *, running: bool) -> Wanted:
    return Wanted(
        vm=a_vm(status=made(vmid=vmid), **spec),
        mark=replace(MARK, vmid=vmid),
        started=True,
        running=running,
        storage="local-lvm",
        bridge="vmbr0",
        seen=proxmox.current(vmid),
    )


def noted(proxmox: Proxmox, wanted: Wanted, vmid: int, config: dict[str, str]) -> Wanted:
    """The object once the operator has noted down what it wrote."""
    records = disk_records(wanted, config)
    changes = {
        "disks": records.disks,
        "detached_disks": records.detached,
        "networks": recorded_networks(wanted, config),
        "tags": wanted.vm.spec.tags,
        "password_from": password_reference(wanted.vm),
    }
    vm = wanted.vm.model_copy(update={"status": wanted.vm.status.model_copy(update=changes)})
    return replace(wanted, vm=vm, seen=proxmox.current(vmid))


def changes_of(found: ConfigDiff) -> tuple[Put | Remove, ...]:
    return (*found.puts, *found.removes)


def ours(vm: ProxmoxVM, before: dict[str, str], written: set[str]) -> set[str]:
    """Keys that may differ afterwards: what the spec lists, and what Proxmox itself makes of that."""
    spec, keys = vm.spec, hardware_keys(vm) | {"name", "description", "tags", "vmgenid"}
    keys |= {network.name for network in spec.networks} | {"ide2"}
    keys |= {network.name.replace("net", "ipconfig") for network in spec.networks}
    keys |= (
        {"ciuser", "sshkeys", "cipassword", "ciupgrade", "nameserver", "searchdomain"}
        if spec.cloud_init
        else set()
    )
    keys |= {"scsi0"} if spec.boot_disk is not None else set()
    free = {f"scsi{number}" for number in range(1, 31)} - before.keys()
    for disk in spec.disks:
        slot = disks.slot_of(disk.name, before, None)
        keys |= free if slot is None else {slot}
    keys |= {"boot"} if "ide2" in written else set()  # a new CD-ROM is appended to the boot order
    keys |= {"machine"} if "ostype" in written else set()  # a Windows VM has its version pinned
    return keys


bounded = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


@pytest.mark.parametrize("running", [False, True], ids=["stopped", "running"])
def test_the_config_becomes_what_the_spec_says_and_takes_effect_when_the_plan_says(
    proxmox: Proxmox, running: bool
) -> None:
    @bounded
    @given(CASES)
    def check(case: tuple[dict[str, Any], dict[str, str]]) -> None:
        spec, before = case
        vmid = proxmox.make(before, running=running)
        before, seed = proxmox.config(vmid), proxmox.instance_id(vmid)
        wanted = wish(proxmox, vmid, spec, running=running)
        found = diff(wanted, before)
        assume(not found.problems)
        proxmox.write(vmid, found)
        waiting, written = proxmox.pending(vmid), {change.key for change in changes_of(found)}
        if running:
            waits = {change.key for change in changes_of(found) if change.effect is Effect.RESTART}
            assert waiting & written == waits
        else:
            assert waiting == set()
        after = proxmox.config(vmid)
        changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        assert changed <= ours(wanted.vm, before, written) | {grow.slot for grow in found.grows}
        if seed is not None and not waiting & {"net0", "net1"}:
            reruns = any(change.reruns_cloud_init for change in changes_of(found))
            assert (proxmox.instance_id(vmid) != seed) == reruns
        if (
            "ide2" in written and "boot" in written
        ):  # its entry in the boot order is taken out by a second write
            proxmox.write(vmid, diff(noted(proxmox, wanted, vmid, after), after))
            after = proxmox.config(vmid)
        assert diff(noted(proxmox, wanted, vmid, after), after) == ConfigDiff()

    check()


def test_memory_that_is_plugged_in_ends_at_the_next_whole_dimm_and_is_left_there(proxmox: Proxmox) -> None:
    vmid = proxmox.make({"memory": "2048", "hotplug": "memory", "numa": "1"}, running=True)
    wanted = wish(proxmox, vmid, {"memory": {"size": "4500Mi"}, "power": "Unmanaged"}, running=True)
    found = diff(wanted, proxmox.config(vmid))
    assert {put.key: put.effect for put in found.puts}["memory"] is Effect.LIVE
    proxmox.write(vmid, found)
    after = proxmox.config(vmid)
    assert (after["memory"], proxmox.pending(vmid)) == ("4608", set())
    assert diff(noted(proxmox, wanted, vmid, after), after) == ConfigDiff()


def test_a_boot_order_may_name_a_device_that_is_made_by_the_same_write(proxmox: Proxmox) -> None:
    vmid = proxmox.make({}, running=False)
    spec = {"networks": [{"name": "net5"}], "bootOrder": ["net5", "scsi0"], "power": "Unmanaged"}
    proxmox.write(vmid, diff(wish(proxmox, vmid, spec, running=False), proxmox.config(vmid)))
    assert proxmox.config(vmid)["boot"] == "order=net5;scsi0"
