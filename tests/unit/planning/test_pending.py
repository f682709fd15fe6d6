"""What waits for a cold boot, in the words of the spec."""

import pytest

from proxmox_operator.planning.vmconfig import PendingChange, fingerprint, with_fields
from unit.planning.make import a_vm, made

CONFIG = {"scsi0": "local-lvm:vm-10000-disk-0", "boot": "order=scsi0", "scsi1": "local-lvm:vm-10000-disk-1"}
DATA = {"name": "data", "slot": "scsi1", "volume": "local-lvm:vm-10000-disk-1", "size": "8Gi"}
NIC = "virtio=BC:24:11:00:00:01,bridge=vmbr0"
BOOT, DISK = CONFIG["scsi0"], CONFIG["scsi1"]
CACHED = "local-lvm:vm-10000-disk-1,cache=writeback"


def change(key, was="1", becomes="2"):
    return PendingChange(key=key, was=was, becomes=becomes)


@pytest.mark.parametrize(
    ("spec", "waits", "field"),
    [
        ({"cpu": {"cores": 2}}, change("cores"), "spec.cpu.cores"),
        ({"cpu": {"sockets": 2}}, change("cores"), None),
        ({"cpu": {"type": "host"}}, change("cpu"), "spec.cpu.type"),
        ({"memory": {"size": "2Gi"}}, change("memory"), "spec.memory.size"),
        ({"memory": {"size": "2Gi", "minimum": "1Gi"}}, change("balloon"), "spec.memory.minimum"),
        ({"memory": {"size": "2Gi", "ballooning": False}}, change("balloon"), "spec.memory.ballooning"),
        ({"memory": {"size": "2Gi"}}, change("balloon"), None),
        ({"machine": "q35"}, change("machine"), "spec.machine"),
        ({"agent": False}, change("agent"), "spec.agent"),
        ({"serialConsole": True}, change("serial0"), "spec.serialConsole"),
        ({"bootOrder": ["scsi0"]}, change("boot"), "spec.bootOrder"),
        ({"networks": [{"name": "net0"}]}, change("net0", NIC, f"{NIC},mtu=1400"), "spec.networks[net0]"),
        ({"networks": [{"name": "net0"}]}, change("net0", None, NIC), "spec.networks[net0]"),
        ({"networks": [{"name": "net0"}]}, change("net0", NIC, f"{NIC},unheard=1"), None),
        ({"networks": [{"name": "net0"}]}, change("net1"), None),
        (
            {"bootDisk": {"cache": "WriteBack"}},
            change("scsi0", BOOT, f"{BOOT},cache=writeback"),
            "spec.bootDisk",
        ),
        ({"bootDisk": {"size": "8Gi"}}, change("scsi0", BOOT, f"{BOOT},cache=writeback"), None),
        ({"bootDisk": {"cache": "WriteBack"}}, change("scsi0", BOOT, f"{BOOT},ssd=1"), None),
        ({}, change("scsi0", BOOT, f"{BOOT},cache=writeback"), None),
        ({"disks": [{"name": "data", "size": "8Gi"}]}, change("scsi1", DISK, CACHED), "spec.disks[data]"),
        ({"disks": [{"name": "data", "size": "8Gi"}]}, change("scsi1", DISK, None), "spec.disks[data]"),
        ({"disks": [{"name": "data", "size": "8Gi"}]}, change("scsi1", DISK, f"{DISK},vendor=x"), None),
        ({"cpu": {"type": "host"}}, change("cpu", "host", "host,flags=+aes"), None),
        ({"cpu": {"type": "host"}}, change("cpu", "kvm64,flags=+aes", "host,flags=+aes"), "spec.cpu.type"),
        ({"machine": "q35"}, change("machine", "q35", "q35,viommu=intel"), None),
        ({"display": {"type": "VirtIO"}}, change("vga", "std", "virtio"), "spec.display"),
        ({"display": {"type": "VirtIO"}}, change("vga", "virtio", "virtio,clipboard=vnc"), None),
        ({"cloudInit": {"user": "debian"}}, change("ide2", None, "local-lvm:cloudinit"), "spec.cloudInit"),
        ({}, change("ide2", None, "local:iso/x.iso,media=cdrom"), None),
        ({"usbDevices": [{"name": "usb0", "mapping": "key"}]}, change("usb0"), "spec.usbDevices[usb0]"),
        ({}, change("hostpci0"), None),
        ({}, change("vga"), None),
    ],
)
def test_a_change_is_named_by_the_field_that_manages_it(spec, waits, field):
    vm = a_vm(status=made(disks=[DATA]), **spec)
    assert [named.field for named in with_fields([waits], vm, CONFIG)] == [field]


@pytest.mark.parametrize(
    ("waits", "sentence"),
    [
        (change("cores"), "spec.cpu.cores (cores): 1 -> 2"),
        (change("vga", None, "std"), "vga (not managed by the spec): unset -> std"),
        (change("vga", "std", None), "vga (not managed by the spec): std -> unset"),
        (change("cipassword", "**********", "secret"), "cipassword (not managed by the spec) changes"),
        (change("args", None, "x" * 90), f"args (not managed by the spec): unset -> {'x' * 57}..."),
    ],
)
def test_a_change_is_told_with_both_values_cut_and_never_a_password(waits, sentence):
    [named] = with_fields([waits], a_vm(status=made(), cpu={"cores": 2}), CONFIG)
    assert named.sentence() == sentence


def test_what_the_spec_manages_is_told_first():
    vm = a_vm(status=made(), cpu={"cores": 2}, memory={"size": "1Gi"})
    named = with_fields([change("acpi"), change("memory"), change("cores")], vm, CONFIG)
    assert [each.key for each in named] == ["cores", "memory", "acpi"]


def test_the_same_changes_have_the_same_fingerprint_and_others_another():
    changes = [change("cores"), change("memory", "512", "1024")]
    others: list[list[PendingChange]] = [
        [],
        changes[:1],
        [change("cores"), change("memory", "512", "2048")],
        [change("memory"), change("cores")],
    ]
    assert fingerprint(changes) == fingerprint(reversed(changes))
    assert fingerprint(changes) not in {fingerprint(each) for each in others}
    assert "1024" not in fingerprint(changes)
