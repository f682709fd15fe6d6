"""The content of a storage: files beside disks, one volume's attributes, and what a deletion needs and says."""

from urllib.parse import quote

import pytest

from harness.images import GIB, qcow2
from pvesim import PveSim
from pvesim.client import Api, ApiError

IMAGE = qcow2(3 * GIB)
CONTENT = "/nodes/pve1/storage/local/content"


def names(api: Api, node: str = "pve1", storage: str = "local", **query: object) -> list[str]:
    """The volume ids of a content list."""
    return [item["volid"] for item in api.get(f"/nodes/{node}/storage/{storage}/content", **query)]


@pytest.fixture
def image(sim: PveSim) -> str:
    """An image that somebody has put on pve1."""
    return sim.put_file("local", "pve1", "import", "debian.qcow2", IMAGE)


def test_the_list_has_all_kinds_of_files_in_their_own_formats(sim: PveSim, api: Api, image: str) -> None:
    sim.put_file("local", "pve1", "iso", "seed.iso", b"seed")
    sim.put_file("local", "pve1", "vztmpl", "debian.tar.zst", b"root")
    listed = {item["volid"]: (item["content"], item["format"], item["size"]) for item in api.get(CONTENT)}
    assert listed == {
        image: ("import", "qcow2", len(IMAGE)),
        "local:iso/seed.iso": ("iso", "iso", 4),
        "local:vztmpl/debian.tar.zst": ("vztmpl", "tzst", 4),
    }
    assert names(api, content="iso") == ["local:iso/seed.iso"]


def test_a_list_for_one_vm_still_has_the_images_to_import(sim: PveSim, api: Api, image: str) -> None:
    sim.put_file("local", "pve1", "iso", "seed.iso", b"seed")
    assert names(api, vmid=100) == [image]


def test_what_the_storage_is_not_for_is_not_listed(sim: PveSim, api: Api, image: str) -> None:
    sim.server.storages["local"]["content"] = "iso"
    assert names(api) == []


def test_the_attributes_of_an_image_are_those_of_the_disk_in_it(api: Api, image: str) -> None:
    found = api.get(f"{CONTENT}/{image}")
    assert {key: found[key] for key in ("path", "size", "format")} == {
        "path": "/var/lib/vz/import/debian.qcow2", "size": 3 * GIB, "format": "qcow2"
    }  # fmt: skip
    assert 0 < found["used"] < GIB


def test_the_slash_in_a_volume_id_may_be_escaped(api: Api, image: str) -> None:
    assert api.get(f"{CONTENT}/{quote(image, safe='')}")["format"] == "qcow2"


def test_a_missing_volume_has_no_attributes_and_another_node_s_is_missing(api: Api, image: str) -> None:
    with pytest.raises(ApiError, match=f"500 volume_size_info on '{image}' failed - no format"):
        api.get(f"/nodes/pve2/storage/local/content/{image}")


def test_a_disk_has_attributes_too(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, disk_gib=4)
    found = api.get("/nodes/pve1/storage/local-lvm/content/local-lvm:vm-100-disk-0")
    assert (found["path"], found["size"], found["format"]) == ("/dev/pve/vm-100-disk-0", 4 * GIB, "raw")


def test_a_deletion_is_a_task_and_concerns_this_node_only(sim: PveSim, api: Api, image: str) -> None:
    sim.put_file("local", "pve2", "import", "debian.qcow2", IMAGE)
    path = sim.image_path(image, "pve1")
    upid = api.delete(f"{CONTENT}/{image}")
    assert (api.ended(upid), upid.split(":")[5:7]) == ("OK", ["imgdel", "local"])
    assert (names(api), names(api, "pve2")) == ([], [image])
    assert path is not None
    assert not path.exists()


def test_a_deletion_of_what_is_gone_succeeds_and_says_so(api: Api) -> None:
    upid = api.delete(f"{CONTENT}/local:import/none.qcow2")
    assert api.ended(upid) == "OK"
    assert "disk image '/var/lib/vz/import/none.qcow2' does not exist" in api.log(upid)


def test_a_deletion_that_is_waited_for_has_no_task_to_follow(sim: PveSim, api: Api, image: str) -> None:
    assert api.delete(f"{CONTENT}/{image}", delay=30) is None
    assert sim.world().files == ()


def test_a_deletion_on_an_offline_storage_fails(sim: PveSim, api: Api, image: str) -> None:
    sim.storage_offline("local")
    assert api.ended(api.delete(f"{CONTENT}/{image}")) == "storage 'local' is not online"
    assert sim.files("local", "pve1") == {"import/debian.qcow2": len(IMAGE)}


def test_a_deletion_needs_datastore_allocate_and_reading_datastore_audit(
    sim: PveSim, api: Api, image: str
) -> None:
    sim.revoke(sim.token_id, "/storage/local", ["Datastore.Allocate"])
    with pytest.raises(ApiError, match=r"403 Permission check failed \(/storage/local, Datastore.Allocate\)"):
        api.delete(f"{CONTENT}/{image}")
    assert names(api) == [image]
    sim.revoke(sim.token_id, "/storage/local", ["Datastore.Audit", "Datastore.AllocateSpace"])
    with pytest.raises(ApiError, match=r"403 .*Datastore.AllocateSpace\|Datastore.Audit"):
        api.get(f"{CONTENT}/{image}")


def test_a_name_that_is_none_is_refused(api: Api) -> None:
    with pytest.raises(ApiError, match=r"500 unable to parse directory volume name 'debian\.qcow2'"):
        api.delete(f"{CONTENT}/local:debian.qcow2")


def test_the_world_shows_files_and_tells_what_changed(sim: PveSim, api: Api, image: str) -> None:
    before = sim.world()
    (file,) = before.files
    assert (file.storage, file.node, file.name, file.size) == (
        "local", "pve1", "import/debian.qcow2", len(IMAGE)
    )  # fmt: skip
    sim.put_file("local", "pve2", "import", "debian.qcow2", IMAGE)
    api.ended(api.delete(f"{CONTENT}/{image}"))
    assert before.diff(sim.world()) == [
        "file local:import/debian.qcow2 is gone on pve1",
        "file local:import/debian.qcow2 appeared on pve2",
    ]
    assert sim.world().files[0].data == file.data


def test_a_file_is_copied_from_a_path(sim: PveSim, tmp_path_factory: pytest.TempPathFactory) -> None:
    source = tmp_path_factory.mktemp("source") / "image"
    source.write_bytes(IMAGE)
    volid = sim.put_file("local", "pve1", "import", "debian.qcow2", source)
    path = sim.image_path(volid, "pve1")
    assert path is not None
    assert path != source
    assert path.read_bytes() == IMAGE


def test_an_iso_is_attached_as_a_cdrom_only_and_where_the_node_has_it(sim: PveSim, api: Api) -> None:
    seed = sim.put_file("local", "pve1", "iso", "seed.iso", bytes(4096))
    with pytest.raises(ApiError) as refused:
        api.post("/nodes/pve1/qemu", vmid=100, ide2=seed)
    assert refused.value.errors == {"ide2": "explicit 'media=cdrom' is required for iso images"}
    assert api.ended(api.post("/nodes/pve1/qemu", vmid=100, ide2=f"{seed},media=cdrom")) == "OK"
    assert api.config(100)["ide2"] == f"{seed},media=cdrom,size=4K"
    upid = api.post("/nodes/pve2/qemu", vmid=101, ide2=f"{seed},media=cdrom")
    assert api.ended(upid) == f"unable to create VM 101 - volume '{seed}' does not exist"
