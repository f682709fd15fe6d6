"""What a change does to a running VM, and what a cold start makes of it."""

from typing import Any

import pytest

from pvesim import PveSim
from pvesim.client import Api, ApiError, eventually

ONE = "/nodes/pve1/qemu/100"
LIVE: list[dict[str, Any]] = [
    {"name": "new"},
    {"description": "new"},
    {"tags": "new"},
    {"onboot": 1},
    {"protection": 1},
    {"startup": "order=1"},
    {"ciuser": "me"},
    {"nameserver": "192.0.2.1"},
    {"ipconfig0": "ip=dhcp"},
    {"cpulimit": 2},
    {"cpuunits": 200},
    {"balloon": 256},
    {"net0": "virtio=BC:24:11:00:00:01,bridge=vmbr1,firewall=1,link_down=1,rate=5,tag=7"},
    {"net0": "e1000=BC:24:11:00:00:02,bridge=vmbr0"},
    {"net1": "virtio,bridge=vmbr0"},
    {"scsi1": "local-lvm:1"},
    {"virtio1": "local-lvm:1"},
    {"scsi0": "local-lvm:vm-100-disk-0,iops_rd=100,backup=0,replicate=0"},
]
PENDING: list[dict[str, Any]] = [
    {"cores": 2},
    {"sockets": 2},
    {"cpu": "host"},
    {"memory": "1024"},
    {"vcpus": 1},
    {"balloon": 0},
    {"agent": "1"},
    {"bios": "ovmf"},
    {"machine": "q35"},
    {"scsihw": "lsi"},
    {"ostype": "l26"},
    {"serial0": "socket"},
    {"smbios1": "uuid=11111111-2222-4333-8444-555555555555"},
    {"sata0": "local-lvm:1"},
    {"ide0": "local-lvm:1"},
    {"efidisk0": "local-lvm:1"},
    {"tpmstate0": "local-lvm:1"},
    {"scsi0": "local-lvm:vm-100-disk-0,discard=on"},
    {"scsi0": "local-lvm:vm-100-disk-0,ssd=1"},
    {"scsi0": "local-lvm:vm-100-disk-0,cache=writeback"},
    {"scsi0": "local-lvm:vm-100-disk-0,iothread=1"},
]


def label(change: dict[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in change.items())


@pytest.fixture
def running(sim: PveSim) -> PveSim:
    sim.add_vm(100, running=True, net0="virtio=BC:24:11:00:00:01,bridge=vmbr0")
    return sim


@pytest.mark.parametrize("change", LIVE, ids=label)
def test_this_change_of_a_running_vm_takes_effect_at_once(
    running: PveSim, api: Api, change: dict[str, Any]
) -> None:
    api.set(100, **change)
    assert api.pending(100) == {}
    [key] = change
    qemu = running.vm(100).qemu or {}
    assert qemu[key] == running.vm(100).config[key]


@pytest.mark.parametrize("change", PENDING, ids=label)
def test_this_change_of_a_running_vm_waits_for_a_cold_start(
    running: PveSim, api: Api, change: dict[str, Any]
) -> None:
    [key] = change
    before = api.config(100, current=1).get(key)
    api.set(100, **change)
    assert list(api.pending(100)) == [key]
    assert api.config(100, current=1).get(key) == before
    assert api.config(100)[key] != before
    api.ended(api.post(f"{ONE}/status/stop"))
    api.ended(api.post(f"{ONE}/status/start"))
    assert api.pending(100) == {}
    assert (running.vm(100).qemu or {})[key] == running.vm(100).config[key]


@pytest.mark.parametrize("option", ["serial=new", "wwn=0x5000000000000002"])
def test_serial_and_wwn_of_a_running_disk_are_committed_while_qemu_keeps_the_old_ones(
    running: PveSim, api: Api, option: str
) -> None:
    api.set(100, scsi0=f"local-lvm:vm-100-disk-0,{option}")
    assert api.pending(100) == {}
    assert option in api.config(100)["scsi0"]
    assert option not in (running.vm(100).qemu or {})["scsi0"]


def test_a_pending_change_set_back_is_no_change(running: PveSim, api: Api) -> None:
    api.set(100, cores=2)
    api.set(100, cores=1)
    assert api.pending(100) == {}


def test_revert_drops_a_pending_change(running: PveSim, api: Api) -> None:
    api.set(100, cores=2)
    api.set(100, revert="cores")
    assert api.pending(100) == {}
    assert api.config(100)["cores"] == 1


def test_a_pending_delete_is_shown_as_one(running: PveSim, api: Api) -> None:
    api.set(100, delete="cores")
    assert api.pending(100)["cores"] == {"key": "cores", "value": 1, "delete": 1}
    assert "cores" not in api.config(100)
    assert api.config(100, current=1)["cores"] == 1


def test_the_pending_view_holds_the_digest_as_a_key(running: PveSim, api: Api) -> None:
    listed = {item["key"]: item for item in api.get(f"{ONE}/pending")}
    assert listed["digest"]["value"] == api.config(100)["digest"]


def test_a_scsi_disk_is_unplugged_live_and_an_ide_disk_is_not(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True, boot="order=scsi0", scsi1="local-lvm:1", ide0="local-lvm:1")
    api.set(100, delete="scsi1,ide0")
    assert list(api.pending(100)) == ["ide0"]
    assert "scsi1" not in (sim.vm(100).qemu or {})


def test_a_reboot_from_inside_the_guest_applies_nothing(running: PveSim, api: Api) -> None:
    api.set(100, cores=2)
    running.guest_reboot(100)
    assert list(api.pending(100)) == ["cores"]


def test_a_reboot_through_the_api_applies_pending_changes_by_a_start_of_roots(
    running: PveSim, api: Api
) -> None:
    api.set(100, cores=2)
    assert api.ended(api.post(f"{ONE}/status/reboot")) == "OK"
    assert running.vm(100).status == "stopped"
    eventually(lambda: running.vm(100).status == "running")
    assert api.pending(100) == {}
    [start] = running.tasks("qmstart")
    assert start.user == "root@pam"


def test_stop_and_start_through_the_api_apply_pending_changes(running: PveSim, api: Api) -> None:
    api.set(100, cores=2)
    api.ended(api.post(f"{ONE}/status/stop"))
    assert list(api.pending(100)) == ["cores"]
    api.ended(api.post(f"{ONE}/status/start"))
    assert api.pending(100) == {}
    assert api.config(100, current=1)["cores"] == 2


def test_without_the_hotplug_feature_a_nic_waits_but_its_vlan_does_not(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True, hotplug="disk", net0="virtio=BC:24:11:00:00:01,bridge=vmbr0")
    api.set(100, net0="virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=9", net1="virtio,bridge=vmbr0")
    assert list(api.pending(100)) == ["net1"]


def test_a_failed_hotplug_is_a_field_error_and_stays_pending(running: PveSim, api: Api) -> None:
    running.vm(100).hotplug_errors["scsi1"] = "no free slot"
    with pytest.raises(ApiError) as refused:
        api.set(100, scsi1="local-lvm:1")
    assert refused.value.status == 400
    assert refused.value.errors["scsi1"].strip() == "hotplug problem - no free slot"
    assert list(api.pending(100)) == ["scsi1"]


def test_in_a_task_a_failed_hotplug_is_the_exit_status(running: PveSim, api: Api) -> None:
    running.vm(100).guest_os.refuses_unplug = True
    upid = api.post(f"{ONE}/config", delete="net0")
    assert api.ended(upid) == (
        "400 Parameter verification failed. net0: hotplug problem - error on hot-unplugging device 'net0'"
    )
