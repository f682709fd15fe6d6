"""What a change does to a running VM: the table, case by case, and that no field is missing from it."""

from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from proxmox_operator.api import VMSpec
from proxmox_operator.planning.vmconfig.effects import TABLE, Effect, effect, reruns_cloud_init

MAC = "BC:24:11:0A:1B:2C"
NIC = f"virtio={MAC},bridge=vmbr0"
DISK = "local-lvm:vm-100-disk-0,size=8G"
LIVE, REPLUG, RESTART, STOPPED, NEVER = Effect


@pytest.mark.parametrize(
    ("key", "old", "new", "expected"),
    [
        pytest.param("name", "a", "b", LIVE, id="the name"),
        pytest.param("tags", None, "web", LIVE, id="tags"),
        pytest.param("onboot", "0", "1", LIVE, id="start with the node"),
        pytest.param("startup", None, "order=1", LIVE, id="start order"),
        pytest.param("startup", "order=1", "order=1,up=5", LIVE, id="start delay"),
        pytest.param("cores", "2", "4", RESTART, id="cores"),
        pytest.param("cpu", "kvm64", "host", RESTART, id="CPU type"),
        pytest.param("cpulimit", None, "2", LIVE, id="CPU limit"),
        pytest.param("vcpus", None, "1", RESTART, id="vcpus, as CPU is not hot-plugged by default"),
        pytest.param("memory", "2048", "4096", RESTART, id="memory, likewise"),
        pytest.param("balloon", "1024", "2048", LIVE, id="another minimum"),
        pytest.param("balloon", None, "1024", LIVE, id="a first minimum"),
        pytest.param("balloon", "1024", "0", RESTART, id="ballooning off"),
        pytest.param("balloon", "0", None, RESTART, id="ballooning on"),
        pytest.param("agent", None, "1", RESTART, id="the agent's device"),
        pytest.param("agent", "1", "1,fstrim_cloned_disks=1", LIVE, id="what only Proxmox minds of it"),
        pytest.param("hotplug", "network,disk", "disk", LIVE, id="hotplug"),
        pytest.param("hotplug", None, "cpu,disk", RESTART, id="hotplug of processors"),
        pytest.param("machine", "pc-q35-9.0", "pc-q35-9.2", RESTART, id="machine version"),
        pytest.param("machine", None, "q35", NEVER, id="chipset"),
        pytest.param("bios", None, "ovmf", NEVER, id="firmware"),
        pytest.param("hostpci0", None, "mapping=gpu", RESTART, id="a PCI device"),
        pytest.param("usb0", None, "mapping=key", LIVE, id="a USB device"),
        pytest.param("ide2", None, "local-lvm:cloudinit", RESTART, id="the cloud-init drive"),
        pytest.param("ide2", "none,media=cdrom", "local:iso/x.iso,media=cdrom", LIVE, id="a CD is put in"),
        pytest.param("net1", None, "virtio,bridge=vmbr0", LIVE, id="a new network device"),
        pytest.param(
            "net0", NIC, f"{NIC},tag=5,trunks=7;9,rate=3,firewall=1,link_down=1", LIVE, id="its cable"
        ),
        pytest.param("net0", NIC, f"bridge=vmbr0,model=virtio,macaddr={MAC.lower()}", LIVE, id="re-ordered"),
        pytest.param("net0", NIC, f"e1000={MAC},bridge=vmbr0", REPLUG, id="its model"),
        pytest.param("net0", NIC, f"{NIC},mtu=1", REPLUG, id="its MTU"),
        pytest.param("net0", NIC, f"{NIC},queues=4,tag=5", REPLUG, id="its queues, and its VLAN"),
        pytest.param("scsi1", None, "local-lvm:5,serial=data", LIVE, id="a new disk"),
        pytest.param("sata1", None, "local-lvm:5", RESTART, id="not on SATA"),
        pytest.param(
            "scsi1", DISK, f"{DISK},backup=0,iops_rd=100,mbps_wr_max=5", LIVE, id="throttles, backup"
        ),
        pytest.param("scsi1", DISK, f"{DISK},cache=writeback", RESTART, id="cache"),
        pytest.param("scsi1", f"{DISK},iops=100", f"{DISK},ssd=1", RESTART, id="the gravest decides"),
        pytest.param("scsi1", f"{DISK},serial=data", DISK, STOPPED, id="a serial number"),
        pytest.param("args", None, "-foo", RESTART, id="what nobody knows"),
    ],
)
def test_what_a_change_does_by_default(key, old, new, expected):
    assert effect(key, old, new, {"cores": "2", "ostype": "l26"}) == expected


@pytest.mark.parametrize(
    ("key", "old", "new", "hotplug", "expected"),
    [
        pytest.param("vcpus", None, "2", "cpu", LIVE, id="a processor is plugged in"),
        pytest.param("vcpus", None, "3", "cpu", RESTART, id="but no more than there are"),
        pytest.param("memory", "2048", "4096", "memory", LIVE, id="memory is plugged in"),
        pytest.param("usb0", None, "mapping=key", "disk", RESTART, id="no USB device"),
        pytest.param("net1", None, "virtio,bridge=vmbr0", "0", RESTART, id="no network device"),
        pytest.param("net0", NIC, f"{NIC},queues=4", "0", RESTART, id="none plugged anew"),
        pytest.param("net0", NIC, f"{NIC},tag=4", "0", LIVE, id="its VLAN needs no plugging"),
        pytest.param("scsi1", None, "local-lvm:5", "network", RESTART, id="no disk"),
        pytest.param("scsi1", None, "local-lvm:5", "1", LIVE, id="the default, spelled as Proxmox does"),
    ],
)
def test_what_hotplug_changes_about_it(key, old, new, hotplug, expected):
    assert effect(key, old, new, {"cores": "2", "hotplug": hotplug}) == expected


def test_a_usb_device_is_plugged_only_into_a_guest_that_copes():
    assert effect("usb0", None, "mapping=key", {"ostype": "win7"}) == RESTART
    assert effect("usb0", None, "mapping=key", {}) == RESTART


@pytest.mark.parametrize(
    ("key", "old", "new", "expected"),
    [
        pytest.param("name", "a", "b", True, id="the host name"),
        pytest.param("sshkeys", None, "k", True, id="keys"),
        pytest.param("ipconfig3", None, "ip=dhcp", True, id="an address"),
        pytest.param("net0", NIC, f"{NIC},tag=5", False, id="a VLAN the guest never hears of"),
        pytest.param("net0", None, NIC, True, id="a device that is given an address"),
        pytest.param("net0", NIC, NIC.replace("2C", "2D"), True, id="another MAC"),
        pytest.param("net1", None, NIC, False, id="a device that cloud-init says nothing about"),
        pytest.param("cores", "1", "2", False, id="cores"),
    ],
)
def test_what_makes_another_instance_id(key, old, new, expected):
    assert reruns_cloud_init(key, old, new, {"ipconfig0": "ip=dhcp"}) is expected


WRITTEN_WHOLE = {
    "display", "pciDevices", "usbDevices", "networks.trunks", "networks.ipv4", "networks.ipv6", "disks.limits",
    "bootDisk.limits", "cloudInit.passwordSecretRef",
}  # fmt: skip
NOT_WRITTEN = {"networks.name", "disks.name", "disks.onRemove", "cloudInit.storage"} | {
    f"cloudInit.{field}"
    for field in ("userData", "userDataSecretRef.name", "userDataSecretRef.key", "networkData", "seedStorage")
}
OTHER_BLOCKS = {
    "clusterRef", "source", "vmid", "power", "placement", "availability", "updates", "readiness", "shutdown",
    "deletionPolicy", "deletionDelay", "detachedDisks", "management",
}  # fmt: skip


def fields(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The fields of a model by their paths on the wire, those of its blocks instead of the blocks."""
    for field in model.model_fields.values():
        path = f"{prefix}{field.alias}"
        inner = next(models(field.annotation), None)
        if inner is None or path in WRITTEN_WHOLE:
            yield path
        else:
            yield from fields(inner, f"{path}.")


def models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from models(part)


def test_every_field_that_is_written_into_the_config_has_its_effect():
    written = {path for path in fields(VMSpec) if path.split(".")[0] not in OTHER_BLOCKS} - NOT_WRITTEN
    assert written == {row.field for row in TABLE if row.field and "(" not in row.field}
