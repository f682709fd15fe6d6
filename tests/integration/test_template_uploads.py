"""Images that the operator uploads (``image.via: Operator``): what an upload leaves alone, and what ends it.

What both ways have in common is tested in ``test_template_images``.
"""

import hashlib
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from harness.kubeapi import Raw
from harness.templates import Templates
from harness.world import World
from imageserver import GIB, qcow2
from proxmox_operator.controllers.fleet import Coming
from proxmox_operator.kube.resources import VM_TEMPLATES
from pvesim.recorder import Answer, Call, DropAfter, DropBefore, Verdict
from pvesim.sim import TOKEN_ID

LONG = 600.0
"""Seconds: longer than any test."""

REST = "x" * 1_000_000


@pytest.fixture
def templates(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Templates]:
    monkeypatch.setattr("proxmox_operator.controllers.template.memory.AGAIN", 0.2)
    with Templates(world) as templates:
        templates.via = "Operator"
        yield templates


@pytest.fixture
def patience(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that rests is given up by nobody."""
    monkeypatch.setattr("proxmox_operator.web.fetch.STALL", LONG)
    monkeypatch.setattr(world.sim.server, "upload_patience", LONG)


def resting(templates: Templates, path: str = "/debian-12.qcow2", times: int | None = None) -> Raw:
    """An image of which enough comes for an upload to be under way, and then nothing."""
    return templates.image(REST, path=path, stall=len(REST) // 2, times=times)


def uploads(world: World, templates: Templates) -> list[str]:
    """The nodes that a whole file was sent to in this test."""
    found = world.sim.recorder.matching("POST", rf"/storage/{templates.storage}/upload$")
    return [call.path.split("/")[2] for call in found]


def bytes_arrive(world: World) -> bool:
    """A node has begun to take in an upload."""
    return any(path.is_file() for path in world.sim.server.scratch.path.glob("*"))


def is_uploading(templates: Templates, name: str) -> bool:
    """It says that it waits for an upload."""
    found = templates.condition(name)
    return found is not None and "the operator uploads" in found.message


def wait_underway(world: World, templates: Templates, name: str) -> None:
    templates.wait_until(lambda: bytes_arrive(world), "an upload is under way", name)


def jobs(world: World) -> list[Coming]:
    """What the operator has on its way, or queued."""
    member = (
        world.operator.manager.fleet.get(world.cluster) if world.operator and world.operator.manager else None
    )
    return list(member.downloads.values()) if member is not None else []


def pause(world: World, name: str, value: str | None) -> None:
    annotations = {"proxmox-operator.io/paused": value}
    world.kube.merge(VM_TEMPLATES, name, {"metadata": {"annotations": annotations}})


def wait_seen(templates: Templates, name: str, generation: int) -> None:
    def seen() -> bool:
        return bool(templates.status(name).get("observedGeneration") == generation)

    templates.wait_until(seen, "it was looked at again", name)


def name_of(image: Raw) -> str:
    stem = str(image["url"]).rpartition("/")[2].removesuffix(".qcow2")
    return f"{stem}-{str(image['checksum']).partition(':')[2][:16]}-uploaded.qcow2"


def once(verdict: Verdict, world: World) -> Callable[[], int]:
    """The next upload ends so; tells how many have."""
    hit: list[object] = []

    def intercept(call: object) -> Verdict | None:
        if str(call).partition(" ->")[0].endswith("/upload") and not hit:
            hit.append(call)
            return verdict
        return None

    world.sim.intercept = intercept
    return lambda: len(hit)


@pytest.fixture(autouse=True)
def undisturbed(world: World) -> Iterator[None]:
    yield
    world.sim.intercept = None


def test_the_nodes_fetch_nothing_and_each_gets_the_file(world: World, templates: Templates) -> None:
    image = templates.image()
    name = templates.make(image=image)
    copies = templates.wait_ready(name)
    assert sorted(copies) == ["pve1", "pve2", "pve3"]
    assert not world.sim.recorder.matching("POST", rf"/storage/{templates.storage}/download-url$")
    assert {node: templates.files(node) for node in copies} == {node: [name_of(image)] for node in copies}
    assert templates.server.count("/debian-12.qcow2") == 3
    assert templates.condition(name, "Downloaded").status == "True"
    told = [said.note for said in templates.events(name) if said.reason == "Uploading"]
    assert len(told) == 3


def test_a_server_that_does_not_tell_the_size_is_said_with_the_remedy(
    world: World, templates: Templates
) -> None:
    name = templates.make(nodes=["pve1"], image=templates.image(sized=False))
    found = templates.wait_reason(name, "ImageSizeUnknown")
    assert "Content-Length" in found.message
    assert templates.condition(name, "Stalled").status == "True"
    assert templates.files("pve1") == []
    templates.edit(name, image={**templates.image(), "via": "Proxmox"})
    templates.wait_ready(name)


def test_a_missing_privilege_is_said_before_anything_is_fetched(world: World, templates: Templates) -> None:
    held = set(world.sim.server.privileges)
    world.sim.call(lambda: world.sim.server.set_acl(TOKEN_ID, "/", held - {"Datastore.AllocateTemplate"}))
    try:
        name = templates.make(nodes=["pve1"])
        found = templates.wait_reason(name, "PermissionDenied")
        assert f"Datastore.AllocateTemplate on /storage/{templates.storage}" in found.message
        assert templates.server.requests == []
    finally:
        world.sim.call(lambda: world.sim.server.set_acl(TOKEN_ID, "/", held))
    templates.wait_ready(name)


def test_an_image_storage_without_room_is_said_before_anything_is_sent(
    world: World, templates: Templates
) -> None:
    world.sim.fill_storage(templates.storage)
    world.look()
    name = templates.make(nodes=["pve1"])
    found = templates.wait_reason(name, "StorageFull")
    assert "spec.image.storage" in found.message
    assert uploads(world, templates) == []
    world.sim.resize_storage(templates.storage, 100)
    templates.wait_ready(name)


@pytest.mark.parametrize(
    "verdict",
    [DropBefore(), DropAfter(), Answer(595, "No route to host"), Answer(500, "unable to fork worker")],
    ids=["is lost", "loses its answer", "does not reach the node", "is refused"],
)
def test_an_upload_that_fails_at_its_end_is_begun_anew(
    world: World, templates: Templates, verdict: Verdict
) -> None:
    hit = once(verdict, world)
    name = templates.make(nodes=["pve1"])
    copies = templates.wait_ready(name)
    assert hit() == 1
    assert set(world.sim.world().vmids) == {9000, *copies.values()}
    assert len(templates.files("pve1")) == 1
    assert not world.leaks()


# What lies there


def test_a_file_that_was_copied_by_half_is_not_used_but_overwritten(
    world: World, templates: Templates
) -> None:
    """Proxmox lists it under its final name while it is copied, and where that was cut short, for ever."""
    with world.sim.hold("upload:copying") as hold:
        image = templates.image()
        name = templates.make(nodes=["pve1"], image=image)
        assert hold.reached.wait(20)
        assert templates.files("pve1") == [name_of(image)]
        templates.wait_until(lambda: bool(templates.copies(name)), "a copy is reserved", name)
        templates.edit(name, keepVersions=2)
        templates.wait_until(
            lambda: templates.status(name).get("observedGeneration") == 2, "it was looked at again", name
        )
        assert templates.copies(name, state="Creating")
        assert set(world.sim.world().vmids) == {9000}
        world.sim.kill_tasks("imgcopy")
    vmid = templates.wait_ready(name)["pve1"]
    assert "size=3G" in world.sim.vm(vmid).config["scsi0"]


def test_half_a_file_of_an_earlier_process_is_overwritten_and_a_whole_one_used_as_it_is(
    world: World, templates: Templates
) -> None:
    data = qcow2(3 * GIB)
    image = templates.image()
    assert image["checksum"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
    world.sim.put_file(templates.storage, "pve1", "import", name_of(image), data[:200])
    world.sim.put_file(templates.storage, "pve2", "import", name_of(image), data)
    name = templates.make(nodes=["pve1", "pve2"], image=image)
    templates.wait_ready(name)
    assert uploads(world, templates) == ["pve1"]
    assert world.sim.files(templates.storage, "pve1") == {f"import/{name_of(image)}": len(data)}


# What goes on meanwhile, and what ends it


@pytest.mark.usefixtures("patience")
def test_uploads_that_take_long_hold_up_nothing_else(world: World, templates: Templates) -> None:
    slow = templates.make("slow", image=resting(templates, "/slow.qcow2"))
    wait_underway(world, templates, slow)
    templates.via = "Proxmox"
    templates.wait_ready(templates.make("quick"))
    vm = world.make()
    world.wait_ready(vm)
    assert is_uploading(templates, slow)


@pytest.mark.usefixtures("patience")
def test_a_deletion_ends_the_upload_and_leaves_nothing(world: World, templates: Templates) -> None:
    name = templates.make(nodes=["pve1"], image=resting(templates))
    wait_underway(world, templates, name)
    templates.delete(name)
    templates.wait_gone(name)
    world.wait_until(lambda: not bytes_arrive(world), "Proxmox has dropped what it had of it")
    assert templates.files("pve1") == []
    assert uploads(world, templates) == []


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("change", ["the URL", "the checksum", "the way", "the nodes"])
def test_an_edit_ends_the_upload_and_what_is_wanted_now_is_brought(
    world: World, templates: Templates, change: str
) -> None:
    image = resting(templates)
    name = templates.make(nodes=["pve1"], image=image)
    wait_underway(world, templates, name)
    if change == "the checksum":
        templates.edit(name, image=templates.image("other", path="/other.qcow2"))
    else:
        whole = templates.image(REST, path="/mirror/debian-12.qcow2")
        assert whole["checksum"] == image["checksum"]
        templates.edit(name, image=whole | ({"via": "Proxmox"} if change == "the way" else {}))
    if change == "the nodes":
        templates.edit(name, nodes=["pve2"])
    copies = templates.wait_ready(name)
    assert list(copies) == (["pve2"] if change == "the nodes" else ["pve1"])
    templates.wait_until(lambda: not bytes_arrive(world), "the other upload is over", name)


@pytest.mark.usefixtures("patience")
def test_a_twin_keeps_the_upload_that_it_waits_for(world: World, templates: Templates) -> None:
    image = resting(templates, times=1)
    first, second = (templates.make(image=image, nodes=["pve1"], revision=text) for text in "ab")
    for name in (first, second):
        wait_underway(world, templates, name)
        templates.wait_until(partial(is_uploading, templates, name), "it waits", name)
    assert templates.server.count("/debian-12.qcow2") == 1
    templates.delete(first)
    templates.wait_gone(first)
    assert bytes_arrive(world), "the other still waits for it"
    templates.delete(second)
    templates.wait_gone(second)
    world.wait_until(lambda: not bytes_arrive(world), "nobody waits any more")


@pytest.mark.usefixtures("patience")
def test_an_operator_that_ends_cuts_the_upload_and_the_next_one_begins_anew(
    world: World, templates: Templates
) -> None:
    name = templates.make(nodes=["pve1"], image=resting(templates, times=1))
    wait_underway(world, templates, name)
    world.restart()
    templates.wait_ready(name)
    assert len(templates.files("pve1")) == 1


@pytest.mark.usefixtures("patience")
def test_a_storage_that_cannot_be_looked_at_ends_no_upload(world: World, templates: Templates) -> None:
    name = templates.make(nodes=["pve1"], image=resting(templates))
    wait_underway(world, templates, name)
    (job,) = jobs(world)
    failed: list[object] = []

    def intercept(call: Call) -> Verdict | None:
        if call.method == "GET" and call.path.endswith(f"/storage/{templates.storage}/content"):
            failed.append(call)
            return Answer(500, "got timeout")
        return None

    world.sim.intercept = intercept
    templates.edit(name, keepVersions=2)
    wait_seen(templates, name, 2)
    assert failed
    world.sim.intercept = None
    templates.edit(name, keepVersions=3)
    wait_seen(templates, name, 3)
    assert jobs(world) == [job]
    assert not job.cancelled
    assert templates.server.count("/debian-12.qcow2") == 1


@pytest.mark.usefixtures("patience")
def test_an_upload_that_waits_for_its_turn_holds_up_no_deletion_and_does_not_begin_in_a_pause(
    world: World, templates: Templates
) -> None:
    slow = [
        templates.make("slow", nodes=[node], image=resting(templates, f"/slow-{node}.qcow2"))
        for node in ("pve1", "pve2")
    ]
    for node in ("pve1", "pve2"):
        is_fetched = partial(templates.server.requests.__contains__, ("GET", f"/slow-{node}.qcow2"))
        templates.wait_until(is_fetched, "it is fetched", slow[0])
    deleted, paused = (
        templates.make(text, nodes=["pve3"], image=templates.image(text, path=f"/{text}.qcow2"))
        for text in ("deleted", "paused")
    )
    for name in (deleted, paused):
        templates.wait_until(partial(is_uploading, templates, name), "it waits for its turn", name)
    templates.delete(deleted)
    templates.wait_gone(deleted)
    pause(world, paused, "true")
    templates.wait_reason(paused, "Paused", "Paused")
    templates.delete(slow[0])
    templates.wait_gone(slow[0])
    templates.wait_ready(templates.make("next", nodes=["pve1"]))
    assert templates.server.count("/deleted.qcow2") == templates.server.count("/paused.qcow2") == 0
    assert is_uploading(templates, slow[1])
    pause(world, paused, None)
    templates.wait_ready(paused)


# What an earlier process has begun


def test_what_an_earlier_process_has_sent_is_waited_for_and_not_sent_again(
    world: World, templates: Templates
) -> None:
    with world.sim.hold("upload:copying") as hold:
        name = templates.make(nodes=["pve1"], image=templates.image())
        assert hold.reached.wait(20)
        world.restart()
        templates.edit(name, keepVersions=2)
        wait_seen(templates, name, 2)
        assert is_uploading(templates, name)
        assert templates.server.count("/debian-12.qcow2") == 1
    templates.wait_ready(name)
    assert uploads(world, templates) == ["pve1"]


def test_what_an_earlier_process_has_sent_is_deleted_with_the_object(
    world: World, templates: Templates
) -> None:
    def waits() -> bool:
        found = templates.condition(name)
        return found is not None and "is deleted then" in found.message

    with world.sim.hold("upload:copying") as hold:
        name = templates.make(nodes=["pve1"], image=templates.image())
        assert hold.reached.wait(20)
        world.restart()
        templates.delete(name)
        templates.wait_until(waits, "it waits for the file", name)
    templates.wait_gone(name)
    assert templates.files("pve1") == []
