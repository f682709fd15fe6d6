"""download-url: which names and contents pass, which storages take them, and who may."""

import pytest

from harness.images import GIB, ImageServer, qcow2
from pvesim import PveSim
from pvesim.client import Api, ApiError

IMAGE = qcow2(3 * GIB)
LOCAL = "/var/lib/vz/import"
NAME = "import/debian.qcow2"


@pytest.mark.parametrize(
    "body", [b"<html>Not found</html>", b"", IMAGE[:60]], ids=["a page", "nothing", "a stump"]
)
def test_what_is_no_qcow2_image_is_refused_with_the_words_of_qemu_img(
    sim: PveSim, api: Api, images: ImageServer, body: bytes
) -> None:
    status = api.ended(api.download(images.serve("/page", body)))
    assert status.startswith(
        f"failed to verify file: qemu-img: Could not open '{LOCAL}/debian.qcow2.tmp_dwnl."
    )
    assert status.endswith(("Image is not in qcow2 format", "qcow2 header too short"))
    assert sim.world().files == ()


def test_an_image_with_a_backing_file_is_refused(sim: PveSim, api: Api, images: ImageServer) -> None:
    backed = IMAGE[:8] + (112).to_bytes(8) + IMAGE[16:]
    status = api.ended(api.download(images.serve("/backed", backed)))
    assert status.startswith("failed to verify file: backing file not allowed for untrusted image ")


def test_whatever_is_called_raw_is_an_image(api: Api, images: ImageServer) -> None:
    assert api.ended(api.download(images.serve("/page", b"<html>"), filename="page.raw")) == "OK"


@pytest.mark.parametrize(
    ("content", "filename", "kept"),
    [
        ("import", "a b+c=d.qcow2", "import/a_b_c_d.qcow2"),
        ("import", "../../etc/x.raw", "import/x.raw"),
        ("iso", "Seed.ISO", "iso/Seed.ISO"),
        ("iso", "disk.img", "iso/disk.img"),
        ("vztmpl", "debian.tar.zst", "vztmpl/debian.tar.zst"),
    ],
)
def test_a_file_name_is_normalised(
    sim: PveSim, api: Api, images: ImageServer, content: str, filename: str, kept: str
) -> None:
    assert api.ended(api.download(images.url + "/debian.qcow2", content=content, filename=filename)) == "OK"
    assert list(sim.files("local", "pve1")) == [kept]


@pytest.mark.parametrize(
    ("content", "filename", "text"),
    [
        ("import", "debian.img", "invalid filename or wrong extension"),
        ("import", "debian.QCOW2", "invalid filename or wrong extension"),
        ("import", "debian.ovf", "invalid filename or wrong extension"),
        ("iso", "debian.qcow2", "wrong file extension"),
        ("vztmpl", "debian.zip", "wrong file extension"),
    ],
)
def test_the_extension_must_be_one_of_the_content(api: Api, content: str, filename: str, text: str) -> None:
    with pytest.raises(ApiError) as refused:
        api.download("http://127.0.0.1:1/x", content=content, filename=filename)
    assert (refused.value.status, refused.value.errors) == (400, {"filename": text})


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("local-lvm", "can't upload to storage type 'lvmthin', not a file based storage!"),
        ("isos", "storage 'isos' is not configured for content-type 'import'"),
        ("far", "storage 'far' is not available on node 'pve1'"),
        ("off", "storage 'off' is disabled"),
        ("dead", "storage 'dead' is not online"),
        ("none", "storage 'none' does not exist"),
    ],
)
def test_a_storage_that_cannot_take_it_is_refused_at_once(
    sim: PveSim, api: Api, storage: str, message: str
) -> None:
    sim.add_storage("isos", "dir", content="iso")
    for sid in ("far", "off", "dead"):
        sim.add_storage(sid, "dir", nodes=["pve2"] if sid == "far" else None)
    sim.server.storages["off"]["disable"] = 1
    sim.storage_offline("dead")
    with pytest.raises(ApiError) as refused:
        api.download("http://127.0.0.1:1/x", storage=storage)
    assert (refused.value.status, refused.value.message) == (500, message)


def test_a_full_storage_ends_the_download_and_a_file_takes_space(
    sim: PveSim, api: Api, images: ImageServer
) -> None:
    before = api.get("/nodes/pve1/storage/local/status")["used"]
    assert api.ended(api.download(images.url + "/debian.qcow2")) == "OK"
    assert api.get("/nodes/pve1/storage/local/status")["used"] == before + len(IMAGE)
    sim.fill_storage("local")
    status = api.ended(api.download(images.url + "/debian.qcow2", filename="other.qcow2"))
    assert status.startswith(f"download failed: Cannot write to '{LOCAL}/other.qcow2.tmp_dwnl.")
    assert status.endswith("' (No space left on device).")
    assert sim.files("local", "pve1") == {NAME: len(IMAGE)}


# ------------------------------------------------------------------------ rights


@pytest.mark.parametrize(
    ("node_privs", "root_privs", "storage_privs", "allowed"),
    [
        (["Sys.AccessNetwork"], [], ["Datastore.AllocateTemplate"], True),
        ([], ["Sys.Audit", "Sys.Modify"], ["Datastore.AllocateTemplate"], True),
        ([], ["Sys.Modify"], ["Datastore.AllocateTemplate"], False),
        (["Sys.AccessNetwork"], [], ["Datastore.AllocateSpace"], False),
    ],
)
def test_a_download_needs_a_right_on_the_storage_and_one_on_the_network(
    sim: PveSim,
    api: Api,
    images: ImageServer,
    node_privs: list[str],
    root_privs: list[str],
    storage_privs: list[str],
    allowed: bool,
) -> None:
    sim.revoke(sim.token_id, "/")
    for path, privs in (("/", root_privs), ("/nodes/pve1", node_privs), ("/storage/local", storage_privs)):
        sim.grant(sim.token_id, path, privs)
    if allowed:
        assert api.ended(api.download(images.url + "/debian.qcow2")) == "OK"
    else:
        with pytest.raises(ApiError, match="403 Permission check failed"):
            api.download(images.url + "/debian.qcow2")
