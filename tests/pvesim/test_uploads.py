"""Uploads: files that a client sends through any node."""

import contextlib
import hashlib
import io
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from imageserver import GIB, qcow2
from pvesim import PveSim
from pvesim.client import Api, ApiError, eventually

IMAGE = qcow2(3 * GIB)
SHA256 = hashlib.sha256(IMAGE).hexdigest()
NAME = "import/debian.qcow2"
PATH = "/nodes/pve1/storage/local/upload"
CONTENT = "/nodes/pve1/storage/local/content"
FORM = {"Content-Type": "multipart/form-data; boundary=b"}


def upload(
    api: Api,
    data: Any = IMAGE,
    filename: str = "debian.qcow2",
    node: str = "pve1",
    storage: str = "local",
    **form: Any,
) -> str:
    """Send a file; the UPID."""
    fields = {"content": "import"} | form
    path = f"/nodes/{node}/storage/{storage}/upload"
    upid: str = api.request("POST", path, data=fields, files={"filename": (filename, data)})
    return upid


def test_an_upload_is_a_task_of_the_node_spoken_to_and_a_file_of_the_one_it_was_meant_for(
    sim: PveSim, api: Api
) -> None:
    upid = upload(api, node="pve2", checksum=SHA256, **{"checksum-algorithm": "sha256"})
    assert (api.ended(upid), upid.split(":")[1], upid.split(":")[5:7]) == ("OK", "pve1", ["imgcopy", ""])
    path = sim.image_path(f"local:{NAME}", "pve2")
    assert path is not None
    assert path.read_bytes() == IMAGE
    assert [(file.node, file.name) for file in sim.world().files] == [("pve2", NAME)]
    assert "calculating checksum...OK, checksum verified" in api.log(upid)


def test_an_upload_takes_the_place_of_a_file_of_that_name(sim: PveSim, api: Api) -> None:
    sim.put_file("local", "pve1", "import", "debian.qcow2", qcow2(GIB, b"old"))
    assert api.ended(upload(api)) == "OK"
    assert sim.files("local", "pve1") == {NAME: len(IMAGE)}


def test_the_memory_does_not_grow_with_the_file(sim: PveSim, api: Api, tmp_path: Path) -> None:
    size = 24 * 1024**2
    head = b'--b\r\nContent-Disposition: form-data; name="content"\r\n\r\niso\r\n'
    head += b'--b\r\nContent-Disposition: form-data; name="filename"; filename="big.iso"\r\n\r\n'
    body = tmp_path / "body"
    body.write_bytes(head + bytes(size) + b"\r\n--b--\r\n")
    tracemalloc.start()
    try:
        with body.open("rb") as form:
            upid = api.request("POST", PATH, data=form, headers=FORM)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert api.ended(upid) == "OK"
    assert sim.files("local", "pve1") == {"iso/big.iso": size}
    assert peak < size / 4


def test_the_length_must_be_known_beforehand(api: Api) -> None:
    pieces = iter([b"--b--\r\n"])
    with pytest.raises(ApiError, match="500 upload without content length header not supported"):
        api.request("POST", PATH, data=pieces, headers=FORM)


def test_a_wrong_checksum_fails_the_task_and_keeps_the_old_file(sim: PveSim, api: Api) -> None:
    sim.put_file("local", "pve1", "import", "debian.qcow2", b"old")
    upid = upload(api, checksum="0" * 64, **{"checksum-algorithm": "sha256"})
    assert api.ended(upid) == f"checksum mismatch: got '{SHA256}' != expect '{'0' * 64}'"
    assert sim.files("local", "pve1") == {NAME: 3}


def test_what_is_no_image_fails_with_the_words_of_qemu_img(sim: PveSim, api: Api) -> None:
    status = api.ended(upload(api, b"<html>"))
    assert status.startswith("qemu-img: Could not open '/var/tmp/pveupload-")
    assert status.endswith("': Image is not in qcow2 format")
    assert sim.world().files == ()


def test_a_full_storage_fails_the_task(sim: PveSim, api: Api) -> None:
    sim.fill_storage("local")
    assert api.ended(upload(api)) == (
        "import failed: cp: error writing '/var/lib/vz/import/debian.qcow2': No space left on device"
    )
    assert sim.world().files == ()


@pytest.mark.parametrize(
    ("storage", "form", "filename", "status", "text"),
    [
        ("local-lvm", {}, "x.qcow2", 500, "can't upload to storage type 'lvmthin'"),
        ("isos", {}, "x.qcow2", 500, "storage 'isos' does not support 'import' content"),
        ("local", {}, "x.img", 400, "Parameter verification failed."),
        ("local", {"content": "snippets"}, "x.yaml", 400, "Parameter verification failed."),
        ("local", {"checksum": "00"}, "x.qcow2", 400, "Parameter verification failed."),
    ],
)
def test_an_upload_that_cannot_be_kept_is_refused_and_its_temporary_file_removed(
    sim: PveSim, api: Api, storage: str, form: dict[str, str], filename: str, status: int, text: str
) -> None:
    sim.add_storage("isos", "dir", content="iso")
    with pytest.raises(ApiError) as refused:
        upload(api, filename=filename, storage=storage, **form)
    assert (refused.value.status, refused.value.message) == (status, text)
    assert list(sim.server.scratch.path.iterdir()) == []


def test_the_field_with_the_file_must_be_called_filename(api: Api) -> None:
    with pytest.raises(ApiError, match="500 wrong field name 'file' for file upload, expected 'filename'"):
        api.request(
            "POST", PATH, data={"content": "iso"},
            files={"file": ("x.iso", io.BytesIO(b"x"))},
        )  # fmt: skip


def test_an_upload_needs_datastore_allocatetemplate_only(sim: PveSim, api: Api) -> None:
    sim.revoke(sim.token_id, "/")
    sim.grant(sim.token_id, "/storage/local", ["Datastore.AllocateTemplate"])
    assert api.ended(upload(api)) == "OK"
    sim.revoke(sim.token_id, "/storage/local")
    with pytest.raises(ApiError, match=r"403 .*/storage/local, Datastore.AllocateTemplate"):
        upload(api)


def test_an_upload_without_a_login_leaves_nothing(sim: PveSim, api: Api) -> None:
    api.session.headers["Authorization"] = "PVEAPIToken=x@pve!y=z"
    with pytest.raises(ApiError, match="401"):
        upload(api)
    assert list(sim.server.scratch.path.iterdir()) == []


def test_an_upload_is_recorded_without_its_bytes(sim: PveSim, api: Api) -> None:
    upload(api)
    (call,) = sim.recorder.matching("POST", r"/upload$")
    assert call.params["filename"] == "debian.qcow2"
    assert call.params["content"] == "import"
    assert set(call.params) == {"content", "filename", "tmpfilename"}


@pytest.mark.parametrize("leaves", [True, False], ids=["a client that leaves", "a client that rests"])
def test_an_upload_that_is_cut_leaves_nothing(
    sim: PveSim, api: Api, monkeypatch: pytest.MonkeyPatch, leaves: bool
) -> None:
    # Long enough for the client below to see its file on a busy machine, before the server has lost its patience.
    monkeypatch.setattr(sim.server, "upload_patience", 60.0 if leaves else 6.0)
    head = b'--b\r\nContent-Disposition: form-data; name="filename"; filename="x.iso"\r\n\r\n'
    begun, over = threading.Event(), threading.Event()

    class Body:
        len = 1_000_000

        def __iter__(self) -> Iterator[bytes]:
            yield head + bytes(500_000)
            eventually(lambda: list(sim.server.scratch.path.iterdir()))
            begun.set()
            if leaves:
                raise InterruptedError
            over.wait(60)

    def send() -> None:
        with contextlib.suppress(requests.ConnectionError, InterruptedError):
            api.request("POST", PATH, data=Body(), headers=FORM)

    client = threading.Thread(target=send)
    client.start()
    assert begun.wait(10)
    eventually(lambda: not list(sim.server.scratch.path.iterdir()))
    over.set()
    client.join()
    assert sim.world().files == ()
    assert not sim.recorder.matching("POST", r"/upload$")


def test_half_of_an_uploaded_file_is_listed_while_it_is_copied_and_stays_where_the_worker_is_killed(
    sim: PveSim, api: Api
) -> None:
    with sim.hold("upload:copying") as hold:
        upid = upload(api)
        assert hold.reached.wait(10)
        assert [item["size"] for item in api.get(CONTENT)] == [len(IMAGE) // 2]
        assert [task.upid for task in sim.kill_tasks("imgcopy")] == [upid]
    assert [item["size"] for item in api.get(CONTENT)] == [len(IMAGE) // 2]
