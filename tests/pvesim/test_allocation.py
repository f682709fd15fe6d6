"""New disks, occupied slots, detached disks, resizing."""

import pytest

from pvesim import PveSim
from pvesim.client import Api, ApiError

ONE = "/nodes/pve1/qemu/100"


def volumes(api: Api, storage: str = "local-lvm", node: str = "pve1") -> dict[str, int]:
    content = api.get(f"/nodes/{node}/storage/{storage}/content")
    return {item["volid"].partition(":")[2]: item["size"] for item in content}


def test_a_create_allocates_its_disks_and_writes_their_volume_ids(sim: PveSim, api: Api) -> None:
    upid = api.post(
        "/nodes/pve1/qemu",
        vmid=100,
        name="a",
        scsihw="virtio-scsi-single",
        scsi0="local-lvm:8,ssd=1,iothread=1",
        efidisk0="local-lvm:1,efitype=4m,pre-enrolled-keys=1",
        tpmstate0="local-lvm:1,version=v2.0",
        ide2="local-lvm:cloudinit",
        net0="virtio,bridge=vmbr0",
        bios="ovmf",
        machine="q35",
    )
    assert api.ended(upid) == "OK"
    config = api.config(100)
    assert config["scsi0"] == "local-lvm:vm-100-disk-1,iothread=1,size=8G,ssd=1"
    assert config["efidisk0"] == "local-lvm:vm-100-disk-0,efitype=4m,pre-enrolled-keys=1,size=528K"
    assert config["tpmstate0"] == "local-lvm:vm-100-disk-2,size=4M,version=v2.0"
    assert config["ide2"] == "local-lvm:vm-100-cloudinit,media=cdrom"
    assert volumes(api)["vm-100-disk-1"] == 8 * 1024**3
    assert len(volumes(api)) == 4


def test_a_create_mints_uuid_vmgenid_meta_boot_order_and_mac(api: Api) -> None:
    api.ended(api.post("/nodes/pve1/qemu", vmid=100, scsi0="local-lvm:1", net0="virtio,bridge=vmbr0"))
    config = api.config(100)
    assert config["smbios1"].startswith("uuid=")
    assert config["meta"].startswith("creation-qemu=")
    assert "ctime=" in config["meta"]
    assert len(config["vmgenid"]) == 36
    assert config["boot"] == "order=scsi0;net0"
    assert config["net0"].startswith("virtio=BC:24:11:")
    assert "name" not in config


def test_a_disk_added_by_a_config_change_is_allocated_too(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    api.set(100, scsi3="local-lvm:6,serial=abc,wwn=0x5000000000000001,discard=on")
    assert (
        api.config(100)["scsi3"]
        == "local-lvm:vm-100-disk-1,discard=on,serial=abc,size=6G,wwn=0x5000000000000001"
    )
    assert volumes(api)["vm-100-disk-1"] == 6 * 1024**3


def test_on_a_file_based_storage_a_volume_is_a_file_in_the_vms_directory(sim: PveSim, api: Api) -> None:
    sim.add_storage("nas", "nfs", content="images")
    sim.add_vm(100, storage=None)
    api.set(100, scsi0="nas:2,format=qcow2", ide2="nas:cloudinit")
    assert api.config(100)["scsi0"] == "nas:100/vm-100-disk-0.qcow2,size=2G"
    assert api.config(100)["ide2"] == "nas:100/vm-100-cloudinit.qcow2,media=cdrom"


def test_the_same_local_storage_of_two_nodes_holds_different_volumes(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, node="pve1")
    sim.add_vm(101, node="pve2")
    assert list(volumes(api, node="pve1")) == ["vm-100-disk-0"]
    assert list(volumes(api, node="pve2")) == ["vm-101-disk-0"]


def test_a_full_thin_pool_refuses_in_the_words_of_lvcreate(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    sim.fill_storage("local-lvm", free_gib=1)
    with pytest.raises(ApiError) as refused:
        api.set(100, scsi1="local-lvm:2")
    assert refused.value.status == 500
    assert refused.value.reason == (
        "lvcreate 'pve/vm-100-disk-1' error:   Cannot create new thin volume, "
        "free space in thin pool pve/data reached threshold."
    )
    assert "scsi1" not in api.config(100)


def test_a_full_volume_group_and_a_full_directory_have_texts_of_their_own(sim: PveSim, api: Api) -> None:
    sim.add_storage("thick", "lvm", size_gib=1)
    sim.add_storage("nas", "nfs", size_gib=1, content="images")
    sim.add_vm(100)
    with pytest.raises(ApiError, match=r"not enough free space \(1048576 < 2097152\)"):
        api.set(100, scsi1="thick:2")
    with pytest.raises(ApiError, match="No space left on device"):
        api.set(100, scsi1="nas:2")


def test_an_unknown_storage_is_named(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    with pytest.raises(ApiError, match="500 storage 'nope' does not exist"):
        api.set(100, scsi1="nope:2")


def test_a_storage_without_vm_images_is_a_parameter_error(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    with pytest.raises(ApiError) as refused:
        api.set(100, scsi1="local:2")
    assert refused.value.status == 400
    assert refused.value.errors == {"storage": "storage 'local' does not support vm images"}


def test_writing_to_an_occupied_slot_keeps_the_old_disk_as_unused(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    api.set(100, scsi0="local-lvm:9")
    config = api.config(100)
    assert config["scsi0"] == "local-lvm:vm-100-disk-1,size=9G"
    assert config["unused0"] == "local-lvm:vm-100-disk-0"


def test_on_a_running_vm_an_occupied_slot_is_unplugged_as_well(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True, scsi1="local-lvm:1")
    api.set(100, scsi1="local-lvm:9")
    assert api.config(100)["unused0"] == "local-lvm:vm-100-disk-1"
    assert api.pending(100) == {}
    assert "disk-2" in str(sim.vm(100).qemu)


def test_a_detached_disk_is_attached_again_and_leaves_unused(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, scsi1="local-lvm:3")
    api.set(100, delete="scsi1")
    assert api.config(100)["unused0"] == "local-lvm:vm-100-disk-1"
    api.set(100, scsi2="local-lvm:vm-100-disk-1")
    config = api.config(100)
    assert config["scsi2"] == "local-lvm:vm-100-disk-1,size=3G"
    assert "unused0" not in config


def test_deleting_an_unused_disk_frees_its_volume(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, scsi1="local-lvm:3")
    api.set(100, delete="scsi1")
    api.set(100, delete="unused0")
    assert list(volumes(api)) == ["vm-100-disk-0"]


def test_deleting_a_disk_by_force_frees_it_at_once(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, scsi1="local-lvm:3")
    api.set(100, delete="scsi1", force=1)
    assert "unused0" not in api.config(100)
    assert list(volumes(api)) == ["vm-100-disk-0"]


def test_a_second_cloudinit_drive_is_refused(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, ide2="local-lvm:cloudinit")
    with pytest.raises(ApiError, match="ide3 - cloud-init drive is already attached at 'ide2'"):
        api.set(100, ide3="local-lvm:cloudinit")


@pytest.mark.parametrize(("text", "size"), [("+2G", 6), ("10G", 10)])
def test_a_resize_grows_by_a_difference_or_to_a_size(sim: PveSim, api: Api, text: str, size: int) -> None:
    sim.add_vm(100, running=True)
    upid = api.put(f"{ONE}/resize", disk="scsi0", size=text)
    assert ":resize:100:" in upid
    assert api.ended(upid) == "OK"
    assert api.config(100)["scsi0"] == f"local-lvm:vm-100-disk-0,size={size}G"
    assert volumes(api)["vm-100-disk-0"] == size * 1024**3


def test_a_resize_never_shrinks(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    upid = api.put(f"{ONE}/resize", disk="scsi0", size="2G")
    assert api.ended(upid) == "shrinking disks is not supported"
    assert volumes(api)["vm-100-disk-0"] == 4 * 1024**3


def test_a_resize_to_the_same_size_succeeds_and_changes_nothing(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    before = sim.world()
    assert api.ended(api.put(f"{ONE}/resize", disk="scsi0", size="4G")) == "OK"
    assert sim.world() == before


def test_a_resize_checks_the_digest_and_the_disk(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    upid = api.put(f"{ONE}/resize", disk="scsi0", size="9G", digest="0" * 40)
    assert api.ended(upid) == "checksum mismatch (file change by other user?)"
    assert api.ended(api.put(f"{ONE}/resize", disk="scsi7", size="9G")) == "disk 'scsi7' does not exist"


def test_a_resize_counts_against_the_storage(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    sim.fill_storage("local-lvm", free_gib=1)
    assert "threshold" in api.ended(api.put(f"{ONE}/resize", disk="scsi0", size="+2G"))
    assert api.ended(api.put(f"{ONE}/resize", disk="scsi0", size="+1G")) == "OK"
    status = api.get("/nodes/pve1/storage/local-lvm/status")
    assert status["avail"] == 0
    assert status["used"] == 5 * 1024**3
