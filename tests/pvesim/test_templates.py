"""VMs that become templates, and templates that somebody still needs."""

import pytest

from harness.images import GIB, qcow2
from pvesim import PveSim
from pvesim.client import Api, ApiError

CREATE = "/nodes/pve1/qemu"
TEMPLATE = "/nodes/pve1/qemu/100/template"


@pytest.fixture(autouse=True)
def storages(sim: PveSim) -> None:
    """One storage of each kind."""
    for sid, kind in (("ceph", "rbd"), ("nas", "nfs"), ("tank", "zfspool"), ("thick", "lvm")):
        sim.add_storage(sid, kind)


@pytest.mark.parametrize(
    ("storage", "volume"),
    [
        ("local-lvm", "base-100-disk-0"),
        ("ceph", "base-100-disk-0"),
        ("tank", "base-100-disk-0"),
        ("nas", "100/base-100-disk-0.qcow2"),
        ("thick", "vm-100-disk-0"),
    ],
)
def test_the_disks_become_base_volumes_where_the_storage_has_such(
    sim: PveSim, api: Api, storage: str, volume: str
) -> None:
    fmt = ",format=qcow2" if storage == "nas" else ""
    sim.add_vm(100, scsi0=f"{storage}:2{fmt}", ide2=f"{storage}:cloudinit")
    cloudinit = sim.vm(100).config["ide2"]
    upid = api.post(TEMPLATE)
    assert (api.ended(upid), upid.split(":")[5]) == ("OK", "qmtemplate")
    config = api.config(100)
    assert (config["template"], config["scsi0"]) == (1, f"{storage}:{volume},size=2G")
    assert config["ide2"] == cloudinit


def test_a_template_is_made_of_an_image_and_cloned(sim: PveSim, api: Api) -> None:
    source = sim.put_file("local", "pve1", "import", "debian.qcow2", qcow2(3 * GIB))
    disks = {"scsi0": f"local-lvm:0,import-from={source}", "ide2": "local-lvm:cloudinit"}
    assert api.ended(api.post(CREATE, vmid=100, name="debian", **disks)) == "OK"
    assert api.ended(api.post(TEMPLATE)) == "OK"
    assert api.ended(api.clone(100, 101)) == "OK"
    data = {volume.name: volume.data for volume in sim.world().volumes if "disk" in volume.name}
    assert data == dict.fromkeys(["base-100-disk-0", "vm-101-disk-0"], sim.world().files[0].data)


def test_a_running_or_locked_vm_and_a_template_become_none(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True)
    with pytest.raises(ApiError, match="500 you can't convert a VM to template if VM is running"):
        api.post(TEMPLATE)
    sim.stop(100)
    sim.set_lock(100, "backup")
    with pytest.raises(ApiError, match=r"500 VM is locked \(backup\)"):
        api.post(TEMPLATE)
    sim.set_lock(100, None)
    assert api.ended(api.post(TEMPLATE)) == "OK"
    with pytest.raises(ApiError, match="500 you can't convert a template to a template"):
        api.post(TEMPLATE)


def test_the_worker_looks_again(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    release = sim.hold_config_lock(100)
    upid = api.post(TEMPLATE)
    sim.set_lock(100, "snapshot")
    release()
    assert api.ended(upid) == "VM is locked (snapshot)"
    assert not sim.vm(100).template


def test_a_killed_conversion_leaves_a_template_with_the_disks_of_a_vm(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    with sim.hold("template:converting") as hold:
        upid = api.post(TEMPLATE)
        assert hold.reached.wait(5)
        sim.kill_tasks("qmtemplate")
    assert api.ended(upid) == "unexpected status"
    config = api.config(100)
    assert (config["template"], config["scsi0"]) == (1, "local-lvm:vm-100-disk-0,size=4G")


@pytest.mark.parametrize(
    ("storage", "in_use"), [("local-lvm", False), ("ceph", True), ("tank", True), ("nas", True)]
)
def test_a_template_with_linked_clones_cannot_be_destroyed_but_on_lvmthin(
    sim: PveSim, api: Api, storage: str, in_use: bool
) -> None:
    sim.add_template(vmid=100, storage=storage, cloudinit=False)
    assert api.ended(api.clone(100, 101)) == "OK"
    base = sim.vm(100).config["scsi0"].partition(",")[0]
    status = api.ended(api.delete("/nodes/pve1/qemu/100"))
    assert status == (f"base volume '{base}' is still in use by linked cloned" if in_use else "OK")
    assert (100 in sim.world().vmids) is in_use
    if in_use:
        assert api.ended(api.delete("/nodes/pve1/qemu/101")) == "OK"
        assert api.ended(api.delete("/nodes/pve1/qemu/100")) == "OK"
    assert sim.world().orphans == []


def test_a_base_volume_in_use_cannot_be_deleted_by_itself(sim: PveSim, api: Api) -> None:
    sim.add_template(vmid=100, storage="ceph", cloudinit=False)
    assert api.ended(api.clone(100, 101)) == "OK"
    upid = api.delete("/nodes/pve1/storage/ceph/content/ceph:base-100-disk-0")
    assert upid.split(":")[6] == "100@ceph"
    assert api.ended(upid) == "base volume 'base-100-disk-0' is still in use by linked clones"


def test_a_template_needs_vm_allocate(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    sim.revoke(sim.token_id, "/vms/100", ["VM.Allocate"])
    with pytest.raises(ApiError, match=r"403 Permission check failed \(/vms/100, VM.Allocate\)"):
        api.post(TEMPLATE)
