"""Images of VMTemplates: fetched by the nodes, checked, and nothing left behind when that fails."""

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest

from harness.templates import Templates
from harness.world import World
from imageserver import GIB, qcow2


@pytest.fixture
def templates(world: World) -> Iterator[Templates]:
    with Templates(world) as templates:
        yield templates


@pytest.fixture(params=["Proxmox", "Operator"])
def via(request: pytest.FixtureRequest, templates: Templates) -> str:
    """Both ways in which an image comes to a node."""
    templates.via = str(request.param)
    return templates.via


def one_node(templates: Templates, **spec: Any) -> str:
    """A VMTemplate that wants a copy on pve1 only."""
    return templates.make(nodes=["pve1"], **spec)


def nothing_is_left(world: World, templates: Templates, name: str) -> None:
    """Neither a file nor a VM; what was reserved is not made."""
    assert templates.files("pve1") == []
    assert set(world.sim.world().vmids) == {9000}
    assert templates.copies(name, state="Ready") == {}


def test_an_image_with_another_checksum_is_refused_and_nothing_is_left(
    world: World, templates: Templates, via: str
) -> None:
    image = templates.image() | {"checksum": "sha256:" + "0" * 64}
    name = one_node(templates, image=image)
    found = templates.wait_reason(name, "ChecksumMismatch")
    assert "spec.image.checksum" in found.message
    assert f"!= expect '{'0' * 64}'" in found.message
    nothing_is_left(world, templates, name)
    assert templates.condition(name, "Stalled").status == "True"


def test_a_corrected_checksum_is_tried_at_once(templates: Templates, via: str) -> None:
    image = templates.image()
    name = one_node(templates, image=image | {"checksum": "sha256:" + "0" * 64})
    templates.wait_reason(name, "ChecksumMismatch")
    templates.edit(name, image=image)
    assert list(templates.wait_ready(name)) == ["pve1"]


@pytest.mark.parametrize(
    ("faults", "words"),
    [({"status": 404}, "404"), ({"cut": 100}, ""), ({"stall": 100}, "")],
    ids=["is not there", "is cut in the middle", "stalls"],
)
def test_an_image_that_cannot_be_fetched_is_said_and_nothing_is_left(
    world: World,
    templates: Templates,
    via: str,
    faults: dict[str, Any],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(world.sim.server, "download_tries", 2)
    monkeypatch.setattr("pvesim.wget.READ_TIMEOUT", 5)
    monkeypatch.setattr("proxmox_operator.web.fetch.STALL", 0.5)
    name = one_node(templates, image=templates.image(**faults))
    found = templates.wait_reason(name, "DownloadFailed")
    assert words in found.message
    assert "spec.image.url" in found.message
    nothing_is_left(world, templates, name)


def test_a_download_that_was_cut_once_is_tried_again(
    templates: Templates, via: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxmox_operator.controllers.template.memory.AGAIN", 0.2)
    name = one_node(templates, image=templates.image(cut=100, times=1))
    assert list(templates.wait_ready(name)) == ["pve1"]


def test_a_redirect_is_followed(templates: Templates, via: str) -> None:
    image = templates.image(path="/real.qcow2")
    url = templates.server.redirect("/latest.qcow2", "/real.qcow2")
    name = one_node(templates, image=image | {"url": url})
    templates.wait_ready(name)
    assert templates.files("pve1")[0].startswith("latest-")


def test_what_is_no_disk_image_is_not_made_into_a_template(
    world: World, templates: Templates, via: str
) -> None:
    text = b"<html>not an image</html>"
    url = templates.server.serve("/page.qcow2", text)
    image = {
        "url": url,
        "checksum": f"sha256:{hashlib.sha256(text).hexdigest()}",
        "storage": templates.storage,
        "via": via,
    }
    name = one_node(templates, image=image)
    found = templates.wait_reason(name, "ImageInvalid")
    assert "spec.image" in found.message
    assert set(world.sim.world().vmids) == {9000}


def test_a_storage_that_takes_no_images_is_named_with_the_command_that_lets_it(
    world: World, templates: Templates
) -> None:
    if "isos" not in world.sim.server.storages:
        world.sim.add_storage("isos", "dir", content="iso,backup")
        world.look()
    name = one_node(templates, image=templates.image() | {"storage": "isos"})
    found = templates.wait_reason(name, "ImageStorageNotUsable")
    assert "`pvesm set isos --content backup,import,iso`" in found.message
    assert templates.server.requests == []


def test_a_storage_that_is_full_is_said(world: World, templates: Templates) -> None:
    world.sim.fill_storage("local-lvm", free_gib=1.0)
    try:
        world.look()
        name = one_node(templates)
        assert "local-lvm" in templates.wait_reason(name, "StorageFull").message
        assert set(world.sim.world().vmids) - {9000} == set()
    finally:
        world.sim.resize_storage("local-lvm", 5000)
    templates.wait_ready(name)


def test_two_templates_of_one_image_download_it_once_for_each_node(templates: Templates, via: str) -> None:
    image = templates.image()
    first, second = (templates.make(image=image, hardware={"cpu": {"cores": cores}}) for cores in (1, 2))
    assert templates.wait_ready(first).keys() == templates.wait_ready(second).keys()
    assert templates.server.count("/debian-12.qcow2") == 3


def test_the_image_stays_while_another_template_needs_it(templates: Templates, via: str) -> None:
    image = templates.image()
    first, second = (templates.make(image=image, nodes=["pve1"], revision=text) for text in "ab")
    templates.wait_ready(first)
    templates.wait_ready(second)
    templates.delete(first)
    templates.wait_gone(first)
    assert len(templates.files("pve1")) == 1
    templates.delete(second)
    templates.wait_gone(second)
    assert templates.files("pve1") == []


def test_an_image_that_lies_on_a_storage_is_used_as_it_is(world: World, templates: Templates) -> None:
    volume = world.sim.put_file(templates.storage, "pve2", "import", "mine.qcow2", qcow2(2 * GIB))
    name = templates.make(nodes=["pve2"], image={"volume": volume})
    copies = templates.wait_ready(name)
    assert "size=2G" in world.sim.vm(copies["pve2"]).config["scsi0"]
    templates.delete(name)
    templates.wait_gone(name)
    assert templates.files("pve2") == ["mine.qcow2"], "it is not ours"


def test_an_image_that_does_not_lie_there_is_said(templates: Templates) -> None:
    name = one_node(templates, image={"volume": f"{templates.storage}:import/none.qcow2"})
    assert "spec.image.volume" in templates.wait_reason(name, "ImageNotFound").message
