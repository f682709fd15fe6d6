"""What a VM's config becomes on QEMU's command line: no QEMU is needed to look at it."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from pvesim.props import parse
from pvesim.qemu_command import Image, Sockets, command, forwarded_port, netdev

BASE: dict[str, Any] = {
    "scsihw": "virtio-scsi-single",
    "boot": "order=scsi0",
    "scsi0": "local-lvm:vm-100-disk-0,size=8G",
    "scsi1": "local-lvm:vm-100-disk-1,serial=data,size=1G,ssd=1,wwn=0x5000c500a1b2c3d4",
    "ide2": "none,media=cdrom",
    "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0",
}


def options(config: dict[str, Any], option: str, *, pve: int = 9) -> list[dict[str, str]]:
    """The values of one of QEMU's options, split at commas."""
    disks = {key: Image(Path(f"/{key}.qcow2"), "qcow2") for key in ("scsi0", "scsi1")}
    argv = command(100, config, disks, Sockets(Path("/vm")), accelerator="tcg", pve=pve)
    return [parse(value) for name, value in itertools.pairwise(argv) if name == option]


def device(config: dict[str, Any], name: str, *, pve: int = 9) -> dict[str, str]:
    [found] = [item for item in options(config, "-device", pve=pve) if item.get("id") == name]
    return found


def test_a_disk_under_virtio_scsi_single_has_a_controller_of_its_own() -> None:
    assert device(BASE, "virtioscsi1")["driver"] == "virtio-scsi-pci"
    disk = device(BASE, "scsi1")
    assert (disk["bus"], disk["scsi-id"], disk["lun"]) == ("virtioscsi1.0", "0", "1")


def test_a_disk_has_the_serial_wwn_and_rotation_rate_of_its_config() -> None:
    disk = device(BASE, "scsi1")
    assert (disk["serial"], int(disk["wwn"]), disk["rotation_rate"]) == ("data", 0x5000C500A1B2C3D4, "1")


@pytest.mark.parametrize(
    ("pve", "machine", "identity"),
    [
        (9, None, "drive-scsi1"),
        (8, None, "data"),
        (9, "pc-i440fx-9.2", "data"),
        (8, "pc-i440fx-10.0", "drive-scsi1"),
    ],
)
def test_from_machine_10_on_the_identity_of_a_disk_is_its_drive_and_not_its_serial(
    pve: int, machine: str | None, identity: str
) -> None:
    config = BASE | ({"machine": machine} if machine else {})
    assert device(config, "scsi1", pve=pve)["device_id"] == identity


def test_the_boot_order_counts_from_100() -> None:
    assert device(BASE, "scsi0")["bootindex"] == "100"
    assert "bootindex" not in device(BASE, "scsi1")


def test_an_empty_cd_rom_drive_has_no_medium() -> None:
    drive = device(BASE, "ide2")
    assert (drive["driver"], drive["bus"], drive["unit"], "drive" in drive) == ("ide-cd", "ide.1", "0", False)


def test_the_agent_has_a_port_only_if_the_config_has_one() -> None:
    names = [item.get("name") for item in options(BASE | {"agent": "1"}, "-device")]
    assert "org.qemu.guest_agent.0" in names
    assert "org.qemu.guest_agent.0" not in [item.get("name") for item in options(BASE, "-device")]


def test_the_network_of_a_static_address_has_its_gateway_and_reaches_nothing() -> None:
    network = netdev("net0", BASE | {"ipconfig0": "ip=10.20.0.5/24,gw=10.20.0.254"})
    assert (network["net"], network["host"], network["restrict"]) == ("10.20.0.0/24", "10.20.0.254", True)
    assert network["hostfwd"] == "tcp:127.0.0.1:0-10.20.0.5:22"
    assert len({network["host"], network["dns"], network["dhcpstart"], "10.20.0.5"}) == 4


def test_the_forwarded_port_is_found_by_its_nic() -> None:
    text = (
        "Hub -1 (net0):\n  TCP[HOST_FORWARD]   3  127.0.0.1 37201  10.0.2.15  22  0 0\n"
        "Hub -1 (net1):\n  TCP[HOST_FORWARD]   8  127.0.0.1 37955  10.9.0.7   22  0 0\n"
    )
    assert [forwarded_port(text, key) for key in ("net0", "net1", "net2")] == [37201, 37955, None]
