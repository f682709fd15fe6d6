"""download-url: what a node fetches, checks, keeps, and leaves behind. Its rules: test_download_rules.py."""

import hashlib
from typing import Any

import pytest

from harness.images import GIB, ImageServer, qcow2
from pvesim import PveSim
from pvesim.client import Api, ApiError, eventually

IMAGE = qcow2(3 * GIB)
SHA256 = hashlib.sha256(IMAGE).hexdigest()
LOCAL = "/var/lib/vz/import"
NAME = "import/debian.qcow2"


def checked(digest: str = SHA256, algorithm: str = "sha256") -> dict[str, Any]:
    """The options of a checked download."""
    return {"checksum": digest, "checksum-algorithm": algorithm}


def test_a_download_is_a_file_of_this_node_only_and_is_listed_with_the_size_of_the_file(
    sim: PveSim, api: Api, images: ImageServer
) -> None:
    upid = api.download(images.url + "/debian.qcow2", **checked())
    assert (api.ended(upid), upid.split(":")[5:7]) == ("OK", ["download", "debian.qcow2"])
    (item,) = api.get("/nodes/pve1/storage/local/content")
    assert item["ctime"] > 0
    assert {key: item[key] for key in ("volid", "content", "format", "size")} == {
        "volid": f"local:{NAME}", "content": "import", "format": "qcow2", "size": len(IMAGE)
    }  # fmt: skip
    assert api.get("/nodes/pve2/storage/local/content") == []
    path = sim.image_path(f"local:{NAME}", "pve1")
    assert path is not None
    assert path.read_bytes() == IMAGE
    assert sim.image_path(f"local:{NAME}", "pve2") is None


def test_a_download_to_shared_storage_is_seen_by_all_nodes(
    sim: PveSim, api: Api, images: ImageServer
) -> None:
    sim.add_storage("nas", "nfs")
    assert api.ended(api.download(images.url + "/debian.qcow2", storage="nas")) == "OK"
    assert {node: list(sim.files("nas", node)) for node in ("pve1", "pve3")} == {
        "pve1": [NAME],
        "pve3": [NAME],
    }


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha224", "sha256", "sha384", "sha512"])
def test_every_algorithm_is_checked_whatever_the_case_of_the_digits(
    api: Api, images: ImageServer, algorithm: str
) -> None:
    digest = hashlib.new(algorithm, IMAGE, usedforsecurity=False).hexdigest()
    upid = api.download(images.url + "/debian.qcow2", **checked(digest.upper(), algorithm))
    assert api.ended(upid) == "OK"
    assert "calculating checksum...OK, checksum verified" in api.log(upid)


def test_a_checksum_without_its_algorithm_is_refused(api: Api, images: ImageServer) -> None:
    with pytest.raises(ApiError) as refused:
        api.download(images.url + "/debian.qcow2", checksum=SHA256)
    assert refused.value.errors == {"checksum-algorithm": "missing property required by 'checksum'"}


def test_a_wrong_checksum_fails_and_leaves_nothing(sim: PveSim, api: Api, images: ImageServer) -> None:
    wrong = "0" * 64
    assert api.ended(api.download(images.url + "/debian.qcow2", **checked(wrong))) == (
        f"checksum mismatch: got '{SHA256}' != expect '{wrong}'"
    )
    assert sim.world().files == ()


def test_the_same_file_with_the_right_checksum_is_not_fetched_again(api: Api, images: ImageServer) -> None:
    url = images.url + "/debian.qcow2"
    assert api.ended(api.download(url)) == "OK"
    again = api.download(url, **checked())
    assert api.ended(again) == "OK"
    expected = "calculating checksum of existing file...OK, got correct file already, no need to download"
    assert expected in api.log(again)
    assert images.count("/debian.qcow2") == 1


def test_another_file_of_that_name_is_kept_and_the_download_fails(
    sim: PveSim, api: Api, images: ImageServer
) -> None:
    theirs = qcow2(GIB)
    sim.put_file("local", "pve1", "import", "debian.qcow2", theirs)
    url = images.url + "/debian.qcow2"
    got = hashlib.sha256(theirs).hexdigest()
    assert api.ended(api.download(url, **checked())) == (
        f"checksum mismatch: got '{got}' != expect '{SHA256}', aborting"
    )
    assert api.ended(api.download(url)) == f"refusing to override existing file '{LOCAL}/debian.qcow2'"
    assert sim.files("local", "pve1") == {NAME: len(theirs)}
    assert images.count("/debian.qcow2") == 0


# ------------------------------------------------------------------- the network


def test_a_redirect_is_followed_and_a_circle_of_them_is_not(api: Api, images: ImageServer) -> None:
    assert api.ended(api.download(images.redirect("/latest", "/debian.qcow2"))) == "OK"
    circle = images.redirect("/circle", "/circle")
    status = api.ended(api.download(circle, filename="c.qcow2"))
    assert status == "download failed: 20 redirections exceeded."


@pytest.mark.parametrize("status", [404, 503])
def test_an_http_error_ends_the_task_with_a_number_and_only_the_log_has_the_reason(
    sim: PveSim, api: Api, images: ImageServer, status: int
) -> None:
    upid = api.download(images.serve("/x", status=status))
    assert api.ended(upid) == "download failed: exit code 8"
    assert any(line.startswith(f"ERROR {status}: ") for line in api.log(upid))
    assert sim.world().files == ()
    assert images.count("/x") == 1


def test_a_connection_that_breaks_is_taken_up_again_and_the_file_is_whole(
    sim: PveSim, api: Api, images: ImageServer
) -> None:
    url = images.serve("/cut", IMAGE, cut=100, times=2)
    upid = api.download(url, **checked())
    assert api.ended(upid) == "OK"
    assert images.count("/cut") == 3
    assert sim.files("local", "pve1") == {NAME: len(IMAGE)}


@pytest.mark.parametrize("fault", ["cut", "stall"])
def test_a_connection_that_always_breaks_or_stalls_is_given_up_after_some_tries(
    sim: PveSim, api: Api, images: ImageServer, fault: str
) -> None:
    sim.server.download_tries, sim.server.time_scale = 3, 0.0002
    faults: dict[str, Any] = {fault: 100}
    url = images.serve("/bad", IMAGE, **faults)
    assert api.ended(api.download(url, **checked())) == "download failed: exit code 4"
    assert images.count("/bad") == 3
    assert sim.world().files == ()


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("http://127.0.0.1:1/x", "Connecting to 127.0.0.1:1... failed: Connection refused."),
        ("http://no-such-host.invalid/x", "wget: unable to resolve host address 'no-such-host.invalid'"),
    ],
    ids=["refused", "unknown"],
)
def test_a_host_that_does_not_answer_is_named(sim: PveSim, api: Api, url: str, line: str) -> None:
    assert api.ended(api.download(url)) == f"download failed: {line}"
    assert sim.world().files == ()


def test_certificates_are_verified_unless_told_otherwise(sim: PveSim, api: Api) -> None:
    with ImageServer(tls=True) as images:
        url = images.serve("/x", IMAGE)
        assert api.ended(api.download(url)) == (
            "download failed: ERROR: The certificate of '127.0.0.1' doesn't have a known issuer."
        )
        unverified: dict[str, Any] = {"verify-certificates": 0}
        assert api.ended(api.download(url, **unverified)) == "OK"
        sim.trust(images.ca_pem)
        assert api.ended(api.download(url, filename="trusted.qcow2")) == "OK"


# ------------------------------------------------------------------ half-way states


def test_a_download_under_way_takes_space_and_is_in_no_list(
    sim: PveSim, api: Api, images: ImageServer
) -> None:
    with sim.hold("download:fetching") as hold:
        upid = api.download(images.url + "/debian.qcow2")
        assert hold.reached.wait(5)
        assert api.get("/nodes/pve1/storage/local/content") == []
        assert sum(sim.files("local", "pve1").values()) == len(IMAGE)
        assert sim.world().tasks == (("download", "debian.qcow2"),)
    assert api.ended(upid) == "OK"
    assert sim.files("local", "pve1") == {NAME: len(IMAGE)}


def test_a_killed_download_leaves_its_unfinished_file_and_a_new_one_succeeds(
    sim: PveSim, api: Api, images: ImageServer
) -> None:
    with sim.hold("download:fetching") as hold:
        upid = api.download(images.url + "/debian.qcow2")
        assert hold.reached.wait(5)
        (task,) = sim.kill_tasks("download")
    assert api.ended(upid) == "unexpected status"
    assert list(sim.files("local", "pve1")) == [f"{NAME}.tmp_dwnl.{task.pid}"]
    assert api.get("/nodes/pve1/storage/local/content") == []
    assert api.ended(api.download(images.url + "/debian.qcow2", **checked())) == "OK"


def test_a_stopped_download_cleans_up(sim: PveSim, api: Api, images: ImageServer) -> None:
    with sim.hold("download:fetching") as hold:
        upid = api.download(images.url + "/debian.qcow2")
        assert hold.reached.wait(5)
        api.delete(f"/nodes/pve1/tasks/{upid}")
        assert api.ended(upid) == "download failed: received interrupt"
    assert sim.world().files == ()


def test_a_download_that_waits_for_the_server_can_be_stopped(
    sim: PveSim, api: Api, images: ImageServer
) -> None:
    upid = api.download(images.serve("/stall", IMAGE, stall=100))
    eventually(lambda: sum(sim.files("local", "pve1").values()) == 100)
    api.delete(f"/nodes/pve1/tasks/{upid}")
    assert api.ended(upid) == "download failed: received interrupt"
    assert sim.world().files == ()


def test_a_download_takes_as_long_as_a_full_clone(images: ImageServer, tmp_path: Any) -> None:
    with PveSim(nodes=1, task_seconds=0.1) as sim, Api(sim, tmp_path) as api:
        upid = api.download(images.url + "/debian.qcow2")
        eventually(lambda: images.count("/debian.qcow2") == 1)
        assert api.status(upid)["status"] == "running"
        assert api.ended(upid) == "OK"


def test_the_files_are_gone_when_the_simulator_has_stopped(images: ImageServer, tmp_path: Any) -> None:
    with PveSim(nodes=1) as sim, Api(sim, tmp_path) as api:
        assert api.ended(api.download(images.url + "/debian.qcow2")) == "OK"
        path = sim.image_path(f"local:{NAME}", "pve1")
        assert path is not None
        assert path.exists()
    assert not path.exists()


# ---------------------------------------------------------------------- metadata


def test_the_metadata_of_a_url_are_its_name_size_and_type(api: Api, images: ImageServer) -> None:
    url = images.redirect("/latest", "/debian.qcow2")
    found = api.get("/nodes/pve1/query-url-metadata", url=url)
    assert found == {"filename": "latest", "size": len(IMAGE), "mimetype": "application/octet-stream"}
    assert images.count("/debian.qcow2") == 0
    with pytest.raises(ApiError, match="500 invalid server response: '404 Not Found'"):
        api.get("/nodes/pve1/query-url-metadata", url=images.url + "/none")


def test_proxmox_ve_8_downloads_alike(images: ImageServer, tmp_path: Any) -> None:
    with PveSim(nodes=1, pve=8) as sim, Api(sim, tmp_path) as api:
        assert api.ended(api.download(images.url + "/debian.qcow2", **checked())) == "OK"
        assert sim.files("local", "pve1") == {NAME: len(IMAGE)}
