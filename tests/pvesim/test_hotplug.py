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
    {"scsi0": "local-lvm:vm-100-disk-0,mbps_rd=5,mbps_rd_max=9,iops_wr_max=7"},
    {"shares": 500},
    {"hotplug": "disk"},
    {"ide2": "none,media=cdrom,backup=0"},
    {"net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0,trunks=2;3"},
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
    {"vga": "virtio"},
    {"numa": 1},
    {"boot": "order=net0"},
    {"hotplug": "disk,cpu"},
    {"hostpci0": "mapping=gpu"},
    {"usb0": "mapping=stick"},
    {"scsi0": "local-lvm:vm-100-disk-0,aio=threads"},
    {"scsi0": "local-lvm:vm-100-disk-0,ro=1"},
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
    sim.add_mapping("pci", "gpu", ["pve1"])
    sim.add_mapping("usb", "stick", ["pve1"])
    sim.add_vm(100, running=True, net0="virtio=BC:24:11:00:00:01,bridge=vmbr0", ide2="none,media=cdrom")
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
    running.server.time_scale = 4.0  # seen stopped on a slow machine, too
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


def test_a_disk_in_the_boot_order_cannot_be_unplugged(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True, boot="order=scsi0;scsi1", scsi1="local-lvm:1")
    with pytest.raises(ApiError) as refused:
        api.set(100, delete="scsi1")
    assert refused.value.errors["scsi1"].strip() == "hotplug problem - can't unplug bootdisk 'scsi1'"
    assert list(api.pending(100)) == ["boot", "scsi1"]


def test_a_scsi_disk_is_unplugged_whether_the_guest_likes_it_or_not(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True, boot="order=scsi0", scsihw="virtio-scsi-pci", scsi1="local-lvm:1")
    sim.vm(100).guest_os.refuses_unplug = True
    api.set(100, delete="scsi1")
    assert "scsi1" not in api.config(100, current=1)
    assert "scsi1" not in (sim.vm(100).qemu or {})


def test_the_controller_of_a_single_scsi_disk_asks_the_guest_when_the_disk_is_gone_already(
    sim: PveSim, api: Api
) -> None:
    sim.add_vm(100, running=True, boot="order=scsi0", scsi1="local-lvm:1")
    sim.vm(100).guest_os.refuses_unplug = True
    with pytest.raises(ApiError) as refused:
        api.set(100, delete="scsi1")
    assert "error on hot-unplugging device 'virtioscsi1'" in refused.value.errors["scsi1"]
    assert "scsi1" not in (sim.vm(100).qemu or {})
    assert list(api.pending(100)) == ["scsi1"]
    api.set(100, delete="scsi1")
    assert api.config(100)["unused0"] == "local-lvm:vm-100-disk-1"


def test_a_virtio_disk_stays_until_the_guest_lets_go_of_it(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True, boot="order=scsi0", virtio1="local-lvm:1")
    sim.vm(100).guest_os.refuses_unplug = True
    with pytest.raises(ApiError, match="error on hot-unplugging device 'virtio1'"):
        api.set(100, delete="virtio1")
    assert "virtio1" in (sim.vm(100).qemu or {})


def test_a_drive_does_not_change_between_disk_and_cdrom_live(running: PveSim, api: Api) -> None:
    with pytest.raises(ApiError, match="hotplug problem - unable to change media type"):
        api.set(100, scsi0="none,media=cdrom")


def test_a_bridge_that_the_node_has_not_is_a_hotplug_problem(running: PveSim, api: Api) -> None:
    with pytest.raises(ApiError, match="hotplug problem - bridge 'vmbr9' does not exist"):
        api.set(100, net0="virtio=BC:24:11:00:00:01,bridge=vmbr9")
    assert list(api.pending(100)) == ["net0"]
    assert "vmbr0" in api.config(100, current=1)["net0"]


def test_with_cpu_hotplug_vcpus_change_within_cores_times_sockets(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True, hotplug="disk,network,cpu", cores=4, vcpus=2)
    api.set(100, vcpus=4)
    assert (sim.vm(100).qemu or {})["vcpus"] == 4
    with pytest.raises(ApiError, match="hotplug problem - you can't add more vcpus than maxcpus"):
        api.set(100, vcpus=5)
    api.set(100, revert="vcpus")
    api.set(100, vcpus=1)
    assert (sim.vm(100).qemu or {})["vcpus"] == 1


def test_with_memory_hotplug_memory_grows_and_shrinks_in_whole_dimms(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True, hotplug="disk,memory", numa=1, memory="1024")
    api.set(100, memory="3000")
    assert api.config(100)["memory"] == "3072"
    api.set(100, memory="2000")
    assert api.config(100)["memory"] == "1536"
    with pytest.raises(ApiError, match="hotplug problem - memory can't be lower than 1024 MB"):
        api.set(100, memory="512")


def test_a_guest_that_keeps_its_memory_fails_a_shrink(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True, hotplug="disk,memory", numa=1, memory="4096")
    sim.vm(100).guest_os.refuses_unplug = True
    with pytest.raises(ApiError, match="error unplug memory module"):
        api.set(100, memory="2048")
    assert (sim.vm(100).qemu or {})["memory"] == "4096"


def test_a_usb_device_is_plugged_live_where_the_guest_is_known_to_cope(sim: PveSim, api: Api) -> None:
    sim.add_mapping("usb", "stick", ["pve1"])
    sim.add_vm(100, running=True, ostype="l26")
    api.set(100, usb0="mapping=stick")
    assert api.pending(100) == {}
    api.set(100, delete="usb0")
    assert "usb0" not in (sim.vm(100).qemu or {})


def test_with_cloudinit_hotplug_the_iso_is_rebuilt_at_once(sim: PveSim, api: Api) -> None:
    for vmid, features in ((100, "disk"), (101, "disk,cloudinit")):
        sim.add_vm(vmid, ide2="local-lvm:cloudinit", hotplug=features)
        sim.start(vmid)
        before = (sim.vm(vmid).seed or {})["instance_id"]
        api.set(vmid, ciuser="other")
        changed = (sim.vm(vmid).seed or {})["instance_id"] != before
        assert changed == (vmid == 101)


def test_a_detach_that_would_destroy_what_a_snapshot_holds_stays_pending(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True, boot="order=scsi0", scsi1="local-lvm:1")
    api.ended(api.post(f"{ONE}/snapshot", snapname="one"))
    with pytest.raises(ApiError, match="volume is still in use"):
        api.set(100, delete="scsi1", force=1)
    assert list(api.pending(100)) == ["scsi1"]


def test_hotplug_features_that_the_same_call_changes_count_from_the_next_call(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True)
    api.set(100, hotplug="0", net1="virtio,bridge=vmbr0")
    assert "net1" in sim.vm(100).config
    api.set(100, net2="virtio,bridge=vmbr0")
    assert "net2" in sim.vm(100).pending
