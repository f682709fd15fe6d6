"""import-from: disks made from images, and what a failed or killed import leaves."""

import struct
from typing import Any

import pytest

from harness.images import GIB, qcow2
from pvesim import PveSim
from pvesim.client import Api, ApiError

MIB = 1024**2
IMAGE = qcow2(3 * GIB)
SOURCE = "local:import/debian.qcow2"
CREATE = "/nodes/pve1/qemu"


@pytest.fixture(autouse=True)
def image(sim: PveSim) -> None:
    """An image of 3 GiB on pve1."""
    sim.put_file("local", "pve1", "import", "debian.qcow2", IMAGE)


def create(api: Api, scsi0: str, vmid: int = 100, **options: Any) -> str:
    """Create a VM with this disk; the UPID."""
    upid: str = api.post(CREATE, vmid=vmid, scsi0=scsi0, scsihw="virtio-scsi-single", **options)
    return upid


def provenance(sim: PveSim) -> tuple[list[int], list[int]]:
    """The `data` of the disks and of the files."""
    world = sim.world()
    return [volume.data for volume in world.volumes], [file.data for file in world.files]


def test_a_new_vm_has_the_disk_of_the_image_and_no_trace_of_the_import(sim: PveSim, api: Api) -> None:
    upid = create(api, f"local-lvm:0,import-from={SOURCE},discard=on,serial=root")
    assert api.ended(upid) == "OK"
    config = api.config(100)
    assert config["scsi0"] == "local-lvm:vm-100-disk-0,discard=on,serial=root,size=3G"
    assert config["boot"] == "order=scsi0"
    assert any("scsi0: successfully created disk" in line for line in api.log(upid))
    disks, files = provenance(sim)
    assert disks == files


def test_two_imports_of_an_image_and_of_its_copy_have_the_same_data_and_a_blank_disk_has_not(
    sim: PveSim, api: Api
) -> None:
    sim.put_file("local", "pve1", "import", "copy.qcow2", IMAGE)
    other = sim.put_file("local", "pve1", "import", "other.qcow2", qcow2(3 * GIB, b"other"))
    for vmid, disk in enumerate((SOURCE, SOURCE, "local:import/copy.qcow2", other), 100):
        assert api.ended(create(api, f"local-lvm:0,import-from={disk}", vmid)) == "OK"
    assert api.ended(create(api, "local-lvm:3", 104)) == "OK"
    first, second, copy, third, blank = provenance(sim)[0]
    assert first == second == copy
    assert len({first, third, blank}) == 3


def test_the_config_call_imports_too_and_a_running_vm_has_the_disk_at_once(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True)
    assert api.ended(api.post(f"{CREATE}/100/config", scsi1=f"local-lvm:0,import-from={SOURCE}")) == "OK"
    assert api.config(100)["scsi1"] == "local-lvm:vm-100-disk-1,size=3G"
    api.set(100, scsi2=f"local-lvm:0,import-from={SOURCE}")
    assert api.pending(100) == {}
    disks, (file,) = provenance(sim)
    assert disks[1:] == [file, file]


@pytest.mark.parametrize(
    ("storage", "asked", "size"),
    [
        ("local-lvm", 10 * MIB, 12 * MIB),
        ("ceph", 10 * MIB + 512, 11 * MIB),
        ("tank", 10 * MIB + 512, 11 * MIB),
        ("nas", 10 * MIB + 512, 10 * MIB + 1024),
    ],
)
def test_the_size_is_rounded_up_to_what_the_storage_allocates(
    sim: PveSim, api: Api, storage: str, asked: int, size: int
) -> None:
    for sid, kind in (("ceph", "rbd"), ("tank", "zfspool"), ("nas", "nfs")):
        sim.add_storage(sid, kind)
    sim.put_file("local", "pve1", "import", "odd.qcow2", qcow2(asked))
    assert api.ended(create(api, f"{storage}:0,import-from=local:import/odd.qcow2")) == "OK"
    assert [volume.size for volume in sim.world().volumes] == [size]


def test_a_raw_image_is_as_large_as_the_file_in_whole_sectors(sim: PveSim, api: Api) -> None:
    sim.add_storage("nas", "nfs")
    sim.put_file("local", "pve1", "import", "seed.raw", bytes(2 * MIB - 1))
    assert api.ended(create(api, "nas:0,import-from=local:import/seed.raw")) == "OK"
    assert api.config(100)["scsi0"] == "nas:100/vm-100-disk-0.raw,size=2M"


def test_a_vmdk_image_tells_its_size_in_sectors(sim: PveSim, api: Api) -> None:
    header = struct.pack("<4sIIQ", b"KDMV", 1, 3, 8 * MIB // 512).ljust(512, b"\0")
    sim.put_file("local", "pve1", "import", "disk.vmdk", header)
    assert api.ended(create(api, "local-lvm:0,import-from=local:import/disk.vmdk")) == "OK"
    assert api.config(100)["scsi0"] == "local-lvm:vm-100-disk-0,size=8M"


@pytest.mark.parametrize(
    ("disk", "volume"),
    [
        ("nas:0", "nas:100/vm-100-disk-0.qcow2"),
        ("nas:0,format=raw", "nas:100/vm-100-disk-0.raw"),
        ("local-lvm:0,format=qcow2", "local-lvm:vm-100-disk-0"),
    ],
)
def test_the_format_is_the_image_s_unless_another_is_asked_for_that_the_storage_has(
    sim: PveSim, api: Api, disk: str, volume: str
) -> None:
    sim.add_storage("nas", "nfs")
    assert api.ended(create(api, f"{disk},import-from={SOURCE}")) == "OK"
    assert api.config(100)["scsi0"] == f"{volume},size=3G"


def test_a_disk_of_another_vm_can_be_imported(sim: PveSim, api: Api) -> None:
    sim.add_vm(200, disk_gib=4)
    assert api.ended(create(api, "local-lvm:0,import-from=local-lvm:vm-200-disk-0")) == "OK"
    assert api.config(100)["scsi0"] == "local-lvm:vm-100-disk-0,size=4G"
    (new, old), _ = provenance(sim)
    assert new == old


def test_while_a_disk_of_another_vm_is_copied_that_vm_cannot_be_changed(sim: PveSim, api: Api) -> None:
    sim.add_vm(200)
    with sim.hold("import:copying") as hold:
        upid = create(api, "local-lvm:0,import-from=local-lvm:vm-200-disk-0")
        assert hold.reached.wait(5)
        with pytest.raises(ApiError, match=r"lock-200\.conf' - got timeout"):
            api.set(200, cores=2)
    assert api.ended(upid) == "OK"


# ---------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("drive", "text"),
    [
        (f"local-lvm:4,import-from={SOURCE}",
         "'import-from' requires special syntax - use <storage ID>:0,import-from=<source>"),
        (f"none,import-from={SOURCE}",
         "'import-from' requires special syntax - use <storage ID>:0,import-from=<source>"),
        ("local-lvm:0,import-from=local:iso/seed.iso",
         "local:iso/seed.iso has wrong type 'iso' - needs to be 'images' or 'import'"),
    ],
    ids=["a size", "no storage", "an ISO"],
)  # fmt: skip
def test_a_bad_parameter_is_refused_at_once(sim: PveSim, api: Api, drive: str, text: str) -> None:
    with pytest.raises(ApiError) as refused:
        create(api, drive)
    assert (refused.value.status, refused.value.errors) == (400, {"scsi0": text})
    assert sim.world().vms == ()


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("local:import/debian.ova", "volume 'local:import/debian.ova' - not a QEMU image format 'ova'"),
        ("none:import/x.qcow2", "storage 'none' does not exist"),
        ("/root/x.qcow2", "Only root can pass arbitrary filesystem paths. at "),
    ],
)
def test_a_source_that_can_be_none_is_refused_at_once(sim: PveSim, api: Api, source: str, text: str) -> None:
    with pytest.raises(ApiError) as refused:
        create(api, f"local-lvm:0,import-from={source}")
    assert refused.value.status == 500
    assert refused.value.message.startswith(text)
    assert sim.world().vms == ()


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("local:import/none.qcow2", "failed to stat '/var/lib/vz/import/none.qcow2'"),
        ("local:import/page.qcow2",
         "qemu-img: Could not open '/var/lib/vz/import/page.qcow2': Image is not in qcow2 format"),
        ("local:import/page.vmdk",
         "qemu-img: Could not open '/var/lib/vz/import/page.vmdk': invalid VMDK image descriptor"),
        ("local:import/empty.raw",
         "cannot import from 'local:import/empty.raw' - could not get size of local:import/empty.raw"),
        ("local-lvm:vm-300-disk-0",
         "cannot import from 'local-lvm:vm-300-disk-0' - could not get size of local-lvm:vm-300-disk-0"),
    ],
    ids=["a missing file", "a page", "no VMDK", "an empty file", "a missing disk"],
)  # fmt: skip
def test_a_source_that_is_none_fails_the_task_and_nothing_of_the_vm_is_left(
    sim: PveSim, api: Api, source: str, text: str
) -> None:
    sim.put_file("local", "pve1", "import", "page.qcow2", b"<html>")
    sim.put_file("local", "pve1", "import", "page.vmdk", b"<html>")
    sim.put_file("local", "pve1", "import", "empty.raw", b"")
    before = sim.world()
    upid = create(api, "local-lvm:4", scsi1=f"local-lvm:0,import-from={source}")
    assert api.ended(upid) == f"unable to create VM 100 - {text}"
    assert before.diff(sim.world()) == []


def test_the_image_must_be_on_this_node(sim: PveSim, api: Api) -> None:
    upid = api.post("/nodes/pve2/qemu", vmid=100, scsi0=f"local-lvm:0,import-from={SOURCE}")
    expected = "unable to create VM 100 - failed to stat '/var/lib/vz/import/debian.qcow2'"
    assert api.ended(upid) == expected


def test_a_full_storage_fails_the_import_and_frees_what_it_had_allocated(sim: PveSim, api: Api) -> None:
    sim.fill_storage("local-lvm", free_gib=5)
    before = sim.world()
    disk = f"local-lvm:0,import-from={SOURCE}"
    status = api.ended(create(api, disk, scsi1=disk))
    assert status == (
        f"unable to create VM 100 - cannot import from '{SOURCE}' - lvcreate 'pve/vm-100-disk-1' error:   "
        "Cannot create new thin volume, free space in thin pool pve/data reached threshold."
    )
    assert before.diff(sim.world()) == []


def test_a_failed_import_into_a_vm_leaves_its_config_alone(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    before = sim.world()
    upid = api.post(f"{CREATE}/100/config", scsi1="local-lvm:0,import-from=local:import/none.qcow2")
    assert api.ended(upid) == "failed to stat '/var/lib/vz/import/none.qcow2'"
    assert before.diff(sim.world()) == []


# ----------------------------------------------------------------------- rights


@pytest.mark.parametrize(
    ("source", "path", "priv", "missing"),
    [
        (SOURCE, "/storage/local-lvm", ["Datastore.AllocateSpace"], "/storage/local-lvm, Datastore.AllocateSpace"),
        (SOURCE, "/storage/local", ["Datastore.Allocate", "Datastore.AllocateSpace", "Datastore.Audit"],
         "/storage/local, Datastore.AllocateSpace|Datastore.Audit"),
        ("local-lvm:vm-200-disk-0", "/vms/200", ["VM.Clone"], "/vms/200, VM.Clone"),
    ],
    ids=["the target", "the image", "another VM's disk"],
)  # fmt: skip
def test_an_import_needs_space_on_the_target_and_to_read_the_source(
    sim: PveSim, api: Api, source: str, path: str, priv: list[str], missing: str
) -> None:
    sim.add_vm(200)
    sim.revoke(sim.token_id, path, priv)
    with pytest.raises(ApiError) as refused:
        create(api, f"local-lvm:0,import-from={source}")
    assert (refused.value.status, refused.value.message) == (403, f"Permission check failed ({missing})")


# ---------------------------------------------------------------- half-way states


def test_an_import_under_way_is_a_locked_vm_without_disks_and_a_volume_without_data(
    sim: PveSim, api: Api
) -> None:
    with sim.hold("import:copying") as hold:
        upid = create(api, f"local-lvm:0,import-from={SOURCE}")
        assert hold.reached.wait(5)
        (vm,) = sim.world().vms
        assert (vm.lock, vm["scsi0"]) == ("create", None)
        (disk,), (file,) = provenance(sim)
        assert disk != file
    assert api.ended(upid) == "OK"


def test_a_killed_import_leaves_the_locked_vm_and_its_volume(sim: PveSim, api: Api) -> None:
    with sim.hold("import:copying") as hold:
        upid = create(api, f"local-lvm:0,import-from={SOURCE}")
        assert hold.reached.wait(5)
        sim.kill_tasks("qmcreate")
    assert api.ended(upid) == "unexpected status"
    world = sim.world()
    assert [vm.lock for vm in world.vms] == ["create"]
    assert [volume.name for volume in world.unreferenced] == ["vm-100-disk-0"]


def test_a_stopped_import_leaves_nothing(sim: PveSim, api: Api) -> None:
    before = sim.world()
    with sim.hold("import:copying") as hold:
        upid = create(api, f"local-lvm:0,import-from={SOURCE}")
        assert hold.reached.wait(5)
        api.delete(f"/nodes/pve1/tasks/{upid}")
        status = api.ended(upid)
    assert status == f"unable to create VM 100 - cannot import from '{SOURCE}' - interrupted by signal"
    assert before.diff(sim.world()) == []


def test_an_image_may_be_deleted_while_it_is_copied(sim: PveSim, api: Api) -> None:
    with sim.hold("import:copying") as hold:
        upid = create(api, f"local-lvm:0,import-from={SOURCE}")
        assert hold.reached.wait(5)
        assert api.ended(api.delete(f"/nodes/pve1/storage/local/content/{SOURCE}")) == "OK"
    assert api.ended(upid) == "OK"
