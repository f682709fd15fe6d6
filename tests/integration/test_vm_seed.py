"""User data of one's own: in the guest's hands before its first boot, and nowhere to be found after it."""

import base64
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from harness.seeds import files_of
from harness.world import World
from proxmox_operator.kube.resources import PROXMOX_VMS
from proxmox_operator.proxmox.breaker import Breaker
from pvesim import DropAfter
from pvesim.core import die
from pvesim.model import Guest
from pvesim.recorder import Call
from pvesim.sim import TOKEN_ID

WORLD = {"cluster": {"defaults": {"storage": "local-lvm", "bridge": "vmbr0", "seedStorage": "local"}}}
USER_DATA = "#cloud-config\npackages: [qemu-guest-agent]\n"
SECRET = "correct-horse-Battery9"
RUNNING = {"status": "running", "errors": []}
NETWORKS = [{"name": "net0", "ipv4": {"address": "10.0.0.5/24", "gateway": "10.0.0.1"}}]


@pytest.fixture(autouse=True)
def impatient_with_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaker(clock: Callable[[], float], **_: float) -> Breaker:
        return Breaker(clock, threshold=1, base=0.1, ceiling=0.2)

    monkeypatch.setattr("proxmox_operator.proxmox.agent.Breaker", breaker)
    for name in ("SOON", "MAX_DELAY", "MAX_SILENCE"):
        monkeypatch.setattr(f"proxmox_operator.controllers.vm.firstboot.{name}", 0.1)


@pytest.fixture(autouse=True)
def no_seed_is_left(world: World) -> Iterator[None]:
    """Whatever happened, no VM that is gone has left its user data behind."""
    before = seeds(world)
    yield
    for name in [raw["metadata"]["name"] for raw in world.kube.listed(PROXMOX_VMS, world.namespace)]:
        world.delete(name)
        world.wait_gone(name)
    assert seeds(world) == before


def seeds(world: World) -> set[tuple[str, str]]:
    """The seeds on the storage `local`, with the node that has them."""
    return {
        (node, name)
        for node in world.sim.server.nodes
        for name in world.sim.files("local", node)
        if "pvm-seed" in name
    }


def booting(world: World, **guest: Any) -> int:
    """A template whose guests are what ``guest`` says."""
    world.sim.add_template(vmid=9500 + len(world.sim.world().vmids))
    vmid = max(world.sim.world().vmids)
    for key, value in guest.items():
        setattr(world.sim.vm(vmid).guest_os, key, value)
    return vmid


def make(world: World, **changes: Any) -> str:
    spec = {"agent": True, "cloudInit": {"userData": USER_DATA}, **changes}
    return world.make("seeded", **spec)


def drive(world: World, vmid: int, slot: str = "ide2") -> str:
    return str(world.sim.vm(vmid).config.get(slot, ""))


def wait_phase(world: World, name: str, phase: str) -> None:
    world.wait_until(
        lambda: world.status(name).get("seed", {}).get("phase") == phase, f"the seed is {phase}", name
    )


def contents(world: World, name: str) -> dict[str, bytes]:
    seed = world.status(name)["seed"]
    path = world.sim.image_path(seed["volume"], seed["node"])
    assert path is not None
    return files_of(path.read_bytes())


def test_the_guest_has_its_user_data_before_it_boots_first_and_nobody_has_it_afterwards(world: World) -> None:
    template = booting(world, cloud_init=RUNNING)
    name = make(world, source={"clone": {"vmid": template}}, networks=NETWORKS)
    vmid = world.vmid(name)
    with world.sim.hold("start:qemu") as hold:
        assert hold.reached.wait(10)
        volume = world.status(name)["seed"]["volume"]
        assert drive(world, vmid).startswith(f"{volume},media=cdrom")
        assert not any("cloudinit" in str(value) for value in world.sim.vm(vmid).config.values())
        found = contents(world, name)
    assert found["user-data"].decode() == USER_DATA
    meta = yaml.safe_load(found["meta-data"])
    assert meta == {"instance-id": world.status(name)["uuid"], "local-hostname": name}
    (ethernet,) = yaml.safe_load(found["network-config"])["ethernets"].values()
    assert ethernet["match"]["macaddress"].upper() in str(world.sim.vm(vmid).config["net0"])
    assert ethernet["addresses"] == ["10.0.0.5/24"]
    world.wait_ready(name)
    world.wait_reason(name, "CloudInitRunning", kind="CloudInit")
    assert volume in drive(world, vmid)
    world.sim.agent(vmid).cloud_init = {"status": "done", "errors": []}
    wait_phase(world, name, "Removed")
    assert drive(world, vmid) == "none,media=cdrom"
    assert seeds(world) == set()
    assert world.sim.vm(vmid).status == "running"
    condition = world.condition(name, "CloudInit")
    assert condition is not None
    assert condition.status == "True"
    world.forget_writes()
    world.passes(name, 2)
    assert world.writes() == []


def test_an_edit_after_the_first_boot_changes_nothing_and_says_so(world: World) -> None:
    name = make(world)
    vmid = world.wait_ready(name)
    wait_phase(world, name, "Removed")
    world.forget_writes()
    world.edit(name, cloudInit={"userData": "#cloud-config\npackages: [htop]\n"})
    assert "has no effect" in world.wait_event(name, "EditedTooLate")
    assert any("has no effect" in sentence for sentence in world.status(name)["plan"])
    assert world.wait_ready(name) == vmid
    assert world.writes() == []
    world.sim.stop(vmid)
    world.wait_until(lambda: world.sim.vm(vmid).status == "running", "it was started again", name)
    assert drive(world, vmid) == "none,media=cdrom"
    assert seeds(world) == set()


def test_a_seed_stays_with_a_vm_that_cannot_tell_and_goes_with_it(world: World) -> None:
    template = booting(world, agent=False)
    name = make(world, source={"clone": {"vmid": template}})
    vmid = world.wait_ready(name)
    condition = world.wait_reason(name, "AgentUnavailable", kind="CloudInit")
    assert condition.status == "Unknown"
    assert "pvm-seed" in drive(world, vmid)
    assert len(seeds(world)) == 1
    world.delete(name)
    world.wait_gone(name)
    assert seeds(world) == set()


def test_ready_waits_for_cloud_init_and_tells_what_went_wrong(world: World) -> None:
    template = booting(world, cloud_init=RUNNING)
    name = world.make(source={"clone": {"vmid": template}}, agent=True, readiness={"cloudInit": True})
    vmid = world.vmid(name)
    assert world.wait_reason(name, "CloudInitRunning").status == "False"
    world.sim.agent(vmid).cloud_init = {"status": "error", "errors": ["('runcmd', ValueError('it broke'))"]}
    assert "it broke" in world.wait_reason(name, "CloudInitFailed").message
    world.sim.agent(vmid).cloud_init = {"status": "done", "errors": []}
    assert world.wait_ready(name) == vmid
    world.forget_writes()
    world.passes(name, 2)
    assert world.writes() == []


@pytest.mark.parametrize(
    ("guest", "reason", "remedy"),
    [
        ({"blocks_exec": True}, "ExecNotAllowed", "allow guest-exec"),
        ({"cloud_init": None}, "CommandNotFound", "does not have that command"),
    ],
)
def test_a_guest_that_will_not_answer_is_told_with_the_remedy(
    world: World, guest: dict[str, Any], reason: str, remedy: str
) -> None:
    template = booting(world, **guest)
    name = world.make(source={"clone": {"vmid": template}}, agent=True, readiness={"cloudInit": True})
    assert remedy in world.wait_reason(name, reason).message


def test_an_old_cloud_init_and_an_answer_that_was_lost_are_asked_again(world: World) -> None:
    lost: list[str] = []

    def lose_once(call: Call) -> DropAfter | None:
        if call.path.endswith("/exec-status") and not lost:
            lost.append(call.path)
            return DropAfter()
        return None

    template = booting(world, old_cloud_init=True)
    world.sim.intercept = lose_once
    name = world.make(source={"clone": {"vmid": template}}, agent=True, readiness={"cloudInit": True})
    world.wait_ready(name)
    assert lost


def test_a_secret_is_on_the_seed_and_nowhere_else(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    template = booting(world, cloud_init=RUNNING)
    text = f"#cloud-config\npassword: {SECRET}\n"
    world.set_secret(name="user-data", namespace=world.namespace, userdata=text)
    reference = {"userDataSecretRef": {"name": "user-data"}}
    name = make(world, source={"clone": {"vmid": template}}, cloudInit=reference)
    vmid = world.wait_ready(name)
    assert contents(world, name)["user-data"].decode() == text
    world.sim.agent(vmid).cloud_init = {"status": "error", "errors": [f"bad value {SECRET}"]}
    world.wait_reason(name, "CloudInitFailed", kind="CloudInit")
    world.sim.agent(vmid).cloud_init = {"status": "done", "errors": []}
    wait_phase(world, name, "Removed")
    records = [
        json.dumps({key: str(value) for key, value in vars(record).items()}) for record in caplog.records
    ]
    assert any("/upload" in record and "proxmox_operator.audit" in record for record in records)
    hidden = (SECRET, base64.b64encode(text.encode()).decode())
    told = [*records, json.dumps(world.raw(name)), *(said.note for said in world.events(name))]
    assert [text for text in told if any(secret in text for secret in hidden)] == []


def test_a_missing_secret_or_key_is_said_before_anything_is_made(world: World) -> None:
    before = world.sim.world()
    name = make(world, cloudInit={"userDataSecretRef": {"name": "nowhere"}})
    message = world.wait_reason(name, "SecretNotFound").message
    assert message.startswith("spec.cloudInit.userDataSecretRef: ")
    world.set_secret(name="nowhere", namespace=world.namespace, other="x")
    assert "'userdata'" in world.wait_reason(name, "SecretKeyMissing").message
    world.set_secret(name="nowhere", namespace=world.namespace, userdata="packages: []\n")
    assert "#cloud-config" in world.wait_reason(name, "UserDataInvalid").message
    assert "vmid" not in world.status(name)
    assert before.diff(world.sim.world()) == []
    world.set_secret(name="nowhere", namespace=world.namespace, userdata=USER_DATA)
    world.wait_ready(name)


def test_what_changes_before_the_first_start_is_what_the_guest_reads(world: World) -> None:
    name = make(world, power="Stopped")
    vmid = world.wait_ready(name)
    assert "pvm-seed" in drive(world, vmid)
    earlier = world.status(name)["seed"]["madeFrom"]
    later = "#cloud-config\npackages: [htop]\n"
    world.edit(name, cloudInit={"userData": later})

    def made_anew() -> bool:
        seed = world.status(name).get("seed", {})
        return (seed.get("phase"), seed.get("madeFrom") == earlier) == ("Uploaded", False)

    world.wait_until(made_anew, "the seed was made anew", name)
    assert contents(world, name)["user-data"].decode() == later
    world.edit(name, cloudInit=None)
    wait_phase(world, name, "Removed")
    assert drive(world, vmid) == "none,media=cdrom"
    assert seeds(world) == set()
    world.edit(name, power="Running")
    world.wait_until(lambda: world.sim.vm(vmid).status == "running", "it was started", name)
    world.wait_ready(name)
    assert "seed" not in world.status(name)
    world.edit(name, cloudInit={"user": "debian"})
    world.wait_until(lambda: world.sim.vm(vmid).config.get("ciuser") == "debian", "native again", name)


@pytest.mark.parametrize(
    ("storage", "reason", "told"),
    [
        ("no-iso", "StorageNotUsable", "takes no ISO images: name one that does, or add iso to its content"),
        ("missing", "StorageNotFound", "is not available there: name one that is, or enable it"),
    ],
)
def test_a_storage_that_cannot_hold_the_seed_is_said_before_anything_is_made(
    world: World, storage: str, reason: str, told: str
) -> None:
    if storage == "no-iso" and storage not in world.sim.server.storages:
        world.sim.add_storage("no-iso", "dir", content="images")
        world.look()
    name = make(world, cloudInit={"userData": USER_DATA, "seedStorage": storage})
    message = world.wait_reason(name, reason).message
    assert f"storage {storage} (spec.cloudInit.seedStorage) {told}" in message
    assert "vmid" not in world.status(name)


def test_a_full_storage_is_said_and_the_vm_does_not_start_without_its_user_data(world: World) -> None:
    world.sim.fill_storage("local")
    world.look()
    try:
        name = make(world)
        vmid = world.vmid(name)
        message = world.wait_reason(name, "StorageFull").message
        assert "spec.cloudInit.seedStorage: storage local is full" in message
        assert world.sim.vm(vmid).status == "stopped"
    finally:
        world.sim.resize_storage("local", 100)
    assert world.wait_ready(name) == vmid


def restrict(world: World, *without: str) -> None:
    """The token holds all privileges but these, and the operator knows."""
    held = set(world.sim.server.privileges) - set(without)
    world.sim.call(lambda: world.sim.server.set_acl(TOKEN_ID, "/", held))
    reads = 90 + len(without)
    world.apply_cluster(limits={"configReadsPerSecond": reads})
    world.wait_cluster("Ready")


def test_a_token_that_may_not_upload_is_told_before_anything_is_made(world: World) -> None:
    restrict(world, "Datastore.AllocateTemplate")
    try:
        name = make(world)
        message = world.wait_reason(name, "PermissionDenied").message
        assert "grant Datastore.AllocateTemplate on /storage/local" in message
        assert "vmid" not in world.status(name)
    finally:
        restrict(world)
    world.wait_ready(name)


def test_a_seed_that_may_not_be_deleted_is_emptied_and_said_so(world: World) -> None:
    restrict(world, "Datastore.Allocate")
    try:
        name = make(world)
        vmid = world.wait_ready(name)
        wait_phase(world, name, "Emptied")
        found = contents(world, name)
        assert yaml.safe_load(found["user-data"]) == {}
        assert yaml.safe_load(found["meta-data"])["instance-id"] == world.status(name)["uuid"]
        note = world.wait_event(name, "SeedEmptied")
        assert "Datastore.Allocate on /storage/local" in note
        assert drive(world, vmid) == "none,media=cdrom"
        assert world.wait_ready(name) == vmid
    finally:
        restrict(world)
    world.delete(name)
    world.wait_gone(name)
    assert seeds(world) == set()


def test_a_seed_that_cannot_be_removed_keeps_neither_the_vm_from_ready_nor_the_object(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise die("unlink failed: Operation not permitted")

    with monkeypatch.context() as broken:
        broken.setattr(world.sim.server, "remove_file", refuse)
        name = make(world)
        note = world.wait_event(name, "SeedLeft")
        assert "Operation not permitted" in note
        assert "`pvesm free local:iso/pvm-seed-" in note
        world.wait_ready(name)
        world.delete(name)
        world.wait_gone(name)
    (_, left) = seeds(world).pop()
    world.sim.call(lambda: remove(world, left))


def test_a_token_that_may_run_nothing_in_guests_is_told_and_the_vm_runs(world: World) -> None:
    restrict(world, "VM.GuestAgent.Unrestricted")
    try:
        name = make(world)
        world.wait_ready(name)
        message = world.wait_reason(name, "PermissionDenied", kind="CloudInit").message
        assert "VM.GuestAgent.Unrestricted" in message
    finally:
        restrict(world)


def test_a_seed_that_a_snapshot_refers_to_is_emptied_and_not_deleted(world: World) -> None:
    template = booting(world, cloud_init=RUNNING)
    name = make(world, source={"clone": {"vmid": template}})
    vmid = world.wait_ready(name)
    world.sim.snapshot(vmid, "before")
    world.sim.agent(vmid).cloud_init = {"status": "done", "errors": []}
    wait_phase(world, name, "Emptied")
    assert yaml.safe_load(contents(world, name)["user-data"]) == {}
    world.sim.delete_snapshot(vmid, "before")


def test_an_upload_whose_answer_was_lost_is_made_again_and_leaves_one_seed(world: World) -> None:
    lost: list[str] = []

    def lose_once(call: Call) -> DropAfter | None:
        if call.path.endswith("/upload") and not lost:
            lost.append(call.path)
            return DropAfter()
        return None

    world.sim.intercept = lose_once
    template = booting(world, cloud_init=RUNNING)
    name = make(world, source={"clone": {"vmid": template}})
    world.wait_ready(name)
    assert lost
    assert len(seeds(world)) == 1


def test_a_vm_that_is_left_in_proxmox_keeps_the_seed_that_it_has_not_read(world: World) -> None:
    template = booting(world, cloud_init=RUNNING)
    name = make(world, source={"clone": {"vmid": template}}, deletionPolicy="Retain")
    vmid = world.wait_ready(name)
    world.delete(name)
    world.wait_gone(name)
    assert "pvm-seed" in drive(world, vmid)
    (_, left) = seeds(world).pop()
    world.sim.vanish(vmid)
    world.sim.call(lambda: remove(world, left))


def test_a_seed_whose_record_was_lost_is_found_in_its_drive_and_removed_in_the_end(world: World) -> None:
    template = booting(world, cloud_init=RUNNING)
    name = make(world, source={"clone": {"vmid": template}})
    vmid = world.wait_ready(name)
    raw = world.raw(name)
    assert raw is not None
    world.kube.replace(PROXMOX_VMS, {**raw, "status": {}}, subresource="status")
    world.wait_event(name, "Recovered")
    wait_phase(world, name, "Uploaded")
    world.sim.agent(vmid).cloud_init = {"status": "done", "errors": []}
    wait_phase(world, name, "Removed")
    assert seeds(world) == set()
    assert not any("no effect" in sentence for sentence in world.status(name).get("plan", ()))


def remove(world: World, name: str) -> None:
    for node in world.sim.server.nodes:
        if (file := world.sim.server.files_on("local", node).get(name)) is not None:
            world.sim.server.remove_file("local", node, file)


def test_the_pretended_guest_has_finished_by_itself() -> None:
    """What the tests above that say nothing of the guest rely on."""
    assert Guest().cloud_init == {"status": "done", "errors": []}
