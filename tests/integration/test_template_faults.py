"""VMTemplates on a bad day: Proxmox refuses a call, errs, or is not reached. It is said, and goes on when that ends."""

from collections.abc import Iterator

import pytest

from harness.conditions import Condition
from harness.templates import Templates
from harness.world import World
from proxmox_operator.controllers.template.memory import TemplateMemory
from pvesim.recorder import DropAfter
from pvesim.sim import TOKEN_ID

FAULTS = {
    "refuses": (403, "Permission check failed (/some/path, Some.Privilege)", "PermissionDenied"),
    "errs": (500, "got no worker upid - start worker failed", "ProxmoxError"),
    "is not reached": (595, "No route to host", "NodeUnavailable"),
}
MAKING = {
    "listing images": ("GET", "/storage/{images}/content"),
    "downloading": ("POST", "/download-url"),
    "creating": ("POST", "/qemu"),
    "converting": ("POST", "/template"),
}


@pytest.fixture
def templates(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Templates]:
    """What may pass by itself is tried again after 0.2 s instead of 10."""
    monkeypatch.setattr("proxmox_operator.controllers.template.memory.AGAIN", 0.2)
    with Templates(world) as templates:
        yield templates


@pytest.fixture
def privileges(world: World) -> Iterator[set[str]]:
    """All of them, which the token has again afterwards."""
    held = set(world.sim.server.privileges)
    yield held
    world.sim.call(lambda: world.sim.server.set_acl(TOKEN_ID, "/", held))


def say(templates: Templates, name: str, reason: str, text: str) -> Condition:
    """Wait until Ready has this in its message; checks the reason where it is not ready at all."""

    def said() -> bool:
        found = templates.condition(name)
        return found is not None and text in found.message

    templates.wait_until(said, f"it says {text!r}", name)
    found = templates.condition(name)
    assert found is not None
    assert found.status == "True" or found.reason == reason
    return found


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", MAKING)
def test_a_call_that_fails_is_said_and_the_template_is_made_once_when_it_no_longer_does(
    world: World, templates: Templates, call: str, fault: str
) -> None:
    method, path = MAKING[call]
    status, message, reason = FAULTS[fault]
    world.sim.fail(method, path.format(images=templates.storage), status, message)
    name = templates.make(nodes=["pve1"])
    text = "Some.Privilege on /some/path" if status == 403 else message
    found = say(templates, name, reason, text)
    assert found.status != "True"
    assert templates.condition(name, "Stalled").status == ("True" if status == 403 else "False")
    world.sim.clear_failures()
    copies = templates.wait_ready(name)
    assert set(world.sim.world().vmids) == {9000, *copies.values()}
    assert not world.leaks()
    assert templates.condition(name, "Stalled").status == "False"


@pytest.mark.parametrize("fault", FAULTS)
def test_an_old_version_that_cannot_be_destroyed_is_mentioned_and_goes_later(
    world: World, templates: Templates, fault: str
) -> None:
    status, message, reason = FAULTS[fault]
    name = templates.make(nodes=["pve1"], keepVersions=0)
    old = templates.wait_ready(name)["pve1"]
    world.sim.fail("DELETE", "/nodes/{node}/qemu/{vmid}", status, message)
    templates.edit(name, revision="b")
    say(templates, name, reason, "Some.Privilege" if status == 403 else message)
    templates.wait_until(lambda: "pve1" in templates.copies(name, state="Ready"), "the new version", name)
    assert old in world.sim.world().vmids
    world.sim.clear_failures()
    templates.wait_until(lambda: old not in world.sim.world().vmids, "the old version is gone", name)
    templates.wait_until(lambda: len(templates.status(name)["copies"]) == 1, "it is off the record", name)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_deletion_that_fails_is_said_and_goes_on(world: World, templates: Templates, fault: str) -> None:
    status, message, reason = FAULTS[fault]
    name = templates.make(nodes=["pve1"])
    templates.wait_ready(name)
    world.sim.fail("DELETE", "/nodes/{node}/qemu/{vmid}", status, message)
    templates.delete(name)
    found = say(templates, name, reason, "Some.Privilege" if status == 403 else message)
    assert (found.status, found.reason) == ("False", reason)
    world.sim.clear_failures()
    templates.wait_gone(name)
    assert set(world.sim.world().vmids) == {9000}
    assert templates.files("pve1") == []


@pytest.mark.parametrize("fault", ["errs", "is not reached"])
def test_an_image_that_cannot_be_deleted_holds_the_object_until_it_can(
    world: World, templates: Templates, fault: str
) -> None:
    status, message, reason = FAULTS[fault]
    name = templates.make(nodes=["pve1"])
    templates.wait_ready(name)
    world.sim.fail("DELETE", "/nodes/{node}/storage/{storage}/content/{volume}", status, message)
    templates.delete(name)
    say(templates, name, reason, message)
    assert len(templates.files("pve1")) == 1
    world.sim.clear_failures()
    templates.wait_gone(name)
    assert templates.files("pve1") == []


# Privileges


@pytest.mark.parametrize(
    ("lacking", "told"),
    [
        ("Datastore.AllocateTemplate", "Datastore.AllocateTemplate on /storage/{images}"),
        ("VM.Allocate", "denies permission"),
        ("VM.Config.CPU", "VM.Config.CPU on /vms/{vmid}"),
        ("Datastore.AllocateSpace", "Datastore.AllocateSpace"),
    ],
)
def test_a_missing_privilege_is_named_with_its_path_and_a_later_grant_works(
    world: World, templates: Templates, privileges: set[str], lacking: str, told: str
) -> None:
    world.sim.call(lambda: world.sim.server.set_acl(TOKEN_ID, "/", privileges - {lacking}))
    name = templates.make(nodes=["pve1"], hardware={"cpu": {"cores": 2}})
    found = templates.wait_reason(name, "PermissionDenied")
    vmid = templates.copies(name)["pve1"]
    assert told.format(images=templates.storage, vmid=vmid) in found.message
    assert templates.condition(name, "Stalled").status == "True"
    world.wait_event(name, "PermissionDenied", namespace="default")
    assert [said.type for said in templates.events(name) if said.reason == "PermissionDenied"] == ["Warning"]
    world.sim.call(lambda: world.sim.server.set_acl(TOKEN_ID, "/", privileges))
    assert templates.wait_ready(name) == {"pve1": vmid}


def test_an_image_that_may_not_be_deleted_is_left_and_said_to_be(
    world: World, templates: Templates, privileges: set[str]
) -> None:
    name = templates.make(nodes=["pve1"])
    templates.wait_ready(name)
    world.sim.call(lambda: world.sim.server.set_acl(TOKEN_ID, "/", privileges - {"Datastore.Allocate"}))
    templates.delete(name)
    templates.wait_gone(name)
    left = [said.note for said in templates.events(name) if said.reason == "ImageLeft"]
    assert len(left) == 1
    assert f"Datastore.Allocate on /storage/{templates.storage}" in left[0]
    assert len(templates.files("pve1")) == 1


# Half-way


def test_a_deletion_while_the_image_comes_leaves_no_file(world: World, templates: Templates) -> None:
    with world.sim.hold("download:fetching") as hold:
        name = templates.make(nodes=["pve1"])
        assert hold.reached.wait(10)
        templates.delete(name)
        templates.wait_reason(name, "Deleting")
    templates.wait_gone(name)
    templates.wait_until(lambda: not world.leaks(), "no task runs", name)
    assert templates.files("pve1") == []


def test_a_new_image_while_the_old_one_comes_leaves_only_the_new_one(
    world: World, templates: Templates
) -> None:
    with world.sim.hold("download:fetching") as hold:
        name = templates.make(nodes=["pve1"], image=templates.image(path="/old.qcow2"))
        assert hold.reached.wait(10)
        templates.edit(name, image=templates.image("new", path="/new.qcow2"))
        templates.wait_until(lambda: len(templates.status(name)["images"]) == 2, "both are recorded", name)
    templates.wait_ready(name)
    templates.wait_until(lambda: len(templates.files("pve1")) == 1, "only one file", name)
    assert templates.files("pve1")[0].startswith("new-")
    assert [
        each["volume"].rpartition("/")[2] for each in templates.status(name)["images"]
    ] == templates.files("pve1")


def test_a_download_that_fails_is_no_matter_of_another_template(
    world: World, templates: Templates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both wait for an image on the same node; only one of the two has a wrong checksum."""
    monkeypatch.setattr("pvesim.wget.READ_TIMEOUT", 100)
    fail = TemplateMemory.fail
    monkeypatch.setattr(TemplateMemory, "fail", lambda *about, now, slow: fail(*about, now=now, slow=30.0))
    good = templates.image("good", path="/good.qcow2", stall=100, times=1)
    bad = templates.image("bad", path="/bad.qcow2") | {"checksum": f"sha256:{'0' * 64}"}
    with world.sim.hold("download:fetching") as hold:
        first = templates.make(nodes=["pve1"], image=bad)
        assert hold.reached.wait(10)
        second = templates.make(nodes=["pve1"], image=good)
        templates.wait_reason(second, "Downloading", "Downloaded")
    templates.wait_reason(first, "ChecksumMismatch")
    world.look()
    assert templates.condition(second, "Downloaded").reason in ("Downloading", "Downloaded")
    templates.wait_ready(second)


def test_a_destroy_whose_answer_was_lost_is_not_taken_for_one_that_is_stuck(
    world: World, templates: Templates
) -> None:
    name = templates.make(nodes=["pve1"])
    templates.wait_ready(name)
    with world.sim.hold("destroy:zombie") as hold:
        world.sim.intercept = lambda call: DropAfter() if call.method == "DELETE" else None
        templates.delete(name)
        assert hold.reached.wait(10)
        world.sim.intercept = None
        templates.wait_reason(name, "Deleting")
    templates.wait_gone(name)
    assert set(world.sim.world().vmids) == {9000}


def test_a_copy_is_not_ready_before_its_disks_are_those_of_a_template(
    world: World, templates: Templates
) -> None:
    """Proxmox calls it a template at once; that the answer was lost is no reason to believe it."""
    with world.sim.hold("template:converting") as hold:
        world.sim.intercept = lambda call: DropAfter() if call.path.endswith("/template") else None
        name = templates.make(nodes=["pve1"])
        assert hold.reached.wait(10)
        world.sim.intercept = None
        templates.wait_until(
            lambda: "converting" in templates.condition(name).message, "it is being converted", name
        )
        assert templates.copies(name, state="Ready") == {}
    vmid = templates.wait_ready(name)["pve1"]
    assert f"base-{vmid}-disk" in world.sim.vm(vmid).config["scsi0"]
