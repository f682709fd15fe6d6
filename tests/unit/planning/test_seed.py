"""What a guest is told at its first boot, and what an edit of it means later."""

from typing import Any

import pytest
import yaml

from proxmox_operator.api import ProxmoxVM, SeedStatus
from proxmox_operator.guest.seed import network_text
from proxmox_operator.planning.access import access_of, violations
from proxmox_operator.planning.firstboot import DONE, FirstBoot
from proxmox_operator.planning.lifecycle import (
    Absent,
    Blocked,
    DropSeed,
    NoteCloudInit,
    PutSeed,
    RecordStart,
    Release,
    Settled,
    Wait,
    plan,
)
from proxmox_operator.planning.moving import LocalDisk, Precondition, Staying, Wish, decide
from proxmox_operator.planning.placement import Terms
from proxmox_operator.planning.report import verdict_of_step, vm_conditions
from proxmox_operator.planning.seed import (
    Location,
    Seed,
    attached_seed,
    comes_too_late,
    location,
    made_from,
    meta_data,
    network_config,
)
from proxmox_operator.planning.vmconfig import diff
from unit.planning.make import UUID, a_vm, cluster, facts, made, present, wanted

MACS = {"net0": "BC:24:11:00:00:01", "net1": "BC:24:11:00:00:02"}
WITH_DATA = {"userData": "#cloud-config\n", "seedStorage": "local"}
VOLUME = f"local:iso/pvm-seed-10000-{UUID[:8]}.iso"
TEMPLATES = {"cloneFrom": [{"start": 9000, "end": 9000}]}
HERE = Location(volume=VOLUME, node="pve1")
RUNNING = FirstBoot(state="Running", reason="CloudInitRunning", message="at work")
FAILED = FirstBoot(state="Failed", reason="CloudInitFailed", message="it failed")


def record(phase: str = "Uploaded", **changes: Any) -> dict[str, Any]:
    usual = {"volume": VOLUME, "node": "pve1", "since": "2026-01-01T00:00:00Z", "madeFrom": "x"}
    return {**usual, "phase": phase, **changes}


def seeded(**spec: Any) -> ProxmoxVM:
    return a_vm(**{"cloudInit": WITH_DATA, "status": made(started=False), **spec})


def test_addresses_of_the_spec_are_found_again_by_their_mac() -> None:
    networks = [
        {
            "name": "net0",
            "ipv4": {"address": "10.0.0.5/24", "gateway": "10.0.0.1"},
            "ipv6": {"address": "2001:db8::5/64", "gateway": "fe80::1"},
        },
        {"name": "net1", "ipv4": {"address": "dhcp"}, "ipv6": {"address": "auto"}},
    ]
    dns = {"servers": ["10.0.0.53"], "searchDomains": ["example.org"]}
    cloud_init = {"userData": "#cloud-config\n", "dns": dns}
    config = network_config(seeded(networks=networks, cloudInit=cloud_init), MACS)
    assert yaml.safe_load(network_text(config) or "") == {
        "version": 2,
        "ethernets": {
            "eth0": {
                "match": {"macaddress": "bc:24:11:00:00:01"},
                "set-name": "eth0",
                "addresses": ["10.0.0.5/24", "2001:db8::5/64"],
                "routes": [{"to": "0.0.0.0/0", "via": "10.0.0.1"}, {"to": "::/0", "via": "fe80::1"}],
                "nameservers": {"addresses": ["10.0.0.53"], "search": ["example.org"]},
            },
            "eth1": {
                "match": {"macaddress": "bc:24:11:00:00:02"},
                "set-name": "eth1",
                "dhcp4": True,
                "accept-ra": True,
                "nameservers": {"addresses": ["10.0.0.53"], "search": ["example.org"]},
            },
        },
    }


def test_networks_without_addresses_are_left_to_cloud_init() -> None:
    assert network_config(seeded(networks=[{"name": "net0"}]), MACS) is None


@pytest.mark.parametrize("networks", [[], [{"name": "net0"}]])
def test_name_servers_count_without_addresses_too(networks: list[dict[str, str]]) -> None:
    cloud_init = {"userData": "#cloud-config\n", "dns": {"servers": ["10.0.0.53"]}}
    vm = seeded(networks=networks, cloudInit=cloud_init)
    assert network_config(vm, {"net0": MACS["net0"]}) == {
        "version": 2,
        "ethernets": {
            "eth0": {
                "match": {"macaddress": "bc:24:11:00:00:01"},
                "set-name": "eth0",
                "dhcp4": True,
                "nameservers": {"addresses": ["10.0.0.53"]},
            }
        },
    }


def test_the_instance_is_the_vm_whatever_is_edited() -> None:
    assert meta_data(seeded()) == {"instance-id": UUID, "local-hostname": "web-1"}
    assert meta_data(seeded(name="other"))["instance-id"] == UUID


def test_the_name_on_the_storage_is_the_vms_own() -> None:
    assert location(seeded(), "nfs", "pve1", shared=True).volume == f"nfs:iso/pvm-seed-10000-{UUID[:8]}.iso"


def test_an_edit_is_told_after_the_first_start_only() -> None:
    before = seeded()
    status = made(seed=record("Removed", madeFrom=made_from(before)))
    assert comes_too_late(seeded(status=status)) is None
    edited = {"userData": "#cloud-config\npackages: []\n", "seedStorage": "local"}
    assert "has no effect" in (comes_too_late(a_vm(cloudInit=edited, status=status)) or "")
    assert comes_too_late(a_vm(cloudInit=edited, status={**status, "started": False})) is None
    assert "has no effect" in (comes_too_late(a_vm(status=status)) or "")


def test_user_data_for_a_vm_of_which_none_is_on_record_is_said_to_have_no_effect_any_more() -> None:
    assert "none is on record: it has no effect any more" in (comes_too_late(seeded(status=made())) or "")


def test_the_seed_of_a_vm_whose_status_was_lost_is_found_in_its_drive() -> None:
    assert attached_seed({"name": "x", "ide2": f"{VOLUME},media=cdrom,size=66K"}, 10000, UUID) == VOLUME
    assert attached_seed({"ide2": f"{VOLUME},media=cdrom"}, 10000, "another-uuid") is None
    assert attached_seed({"ide2": "none,media=cdrom"}, 10000, UUID) is None


def test_what_is_recorded_tells_a_secrets_name_and_not_its_value() -> None:
    first, other = ({"userDataSecretRef": {"name": name}} for name in ("a", "b"))
    assert made_from(a_vm(cloudInit=first)) == made_from(a_vm(cloudInit=first))
    assert made_from(a_vm(cloudInit=first)) != made_from(a_vm(cloudInit=other))


# What is done next


def seed(phase: str | None, **changes: Any) -> Seed:
    return Seed(record=SeedStatus.model_validate(record(phase)) if phase else None, **changes)


def test_nothing_starts_before_the_seed_is_there() -> None:
    vm = seeded()
    stopped = present(power="Stopped")
    assert isinstance(plan(facts(vm, existence=stopped, seed=seed(None, wanted=HERE))), PutSeed)
    assert isinstance(plan(facts(vm, existence=stopped, seed=seed("Uploading", wanted=HERE))), PutSeed)
    assert isinstance(plan(facts(vm, existence=stopped, seed=seed("Uploaded", wanted=HERE))), PutSeed)
    current = seed("Uploaded", wanted=HERE, current=True, attached=True)
    assert isinstance(plan(facts(vm, existence=stopped, seed=current)), RecordStart)


def test_a_seed_on_a_node_that_the_vm_has_left_goes_before_another_comes() -> None:
    there = Location(volume=VOLUME, node="pve2")
    vm, stopped = seeded(), present(power="Stopped")
    assert isinstance(plan(facts(vm, existence=stopped, seed=seed("Uploaded", wanted=there))), DropSeed)
    kept = seed("Uploaded", wanted=there, kept=True)
    assert isinstance(plan(facts(vm, existence=stopped, seed=kept)), PutSeed)
    shared = Location(volume=VOLUME, node="pve2", shared=True)
    assert isinstance(plan(facts(vm, existence=stopped, seed=seed("Uploaded", wanted=shared))), PutSeed)


def test_a_seed_that_is_no_longer_wanted_goes_before_the_first_start() -> None:
    native, stopped = a_vm(status=made(started=False, seed=record())), present(power="Stopped")
    assert isinstance(plan(facts(native, existence=stopped, seed=seed("Uploaded"))), DropSeed)
    for over in (seed("Removed"), seed("Uploaded", kept=True)):
        assert isinstance(plan(facts(native, existence=stopped, seed=over)), RecordStart)


def test_after_the_first_start_nothing_is_uploaded_any_more() -> None:
    vm = seeded(status=made())
    assert isinstance(plan(facts(vm, existence=present(), seed=seed(None, wanted=HERE))), Settled)


def test_the_end_of_the_first_boot_is_recorded_before_the_seed_goes() -> None:
    vm = seeded(status=made(seed=record()))
    step = plan(facts(vm, existence=present(), seed=seed("Uploaded", attached=True), first_boot=DONE))
    assert isinstance(step, NoteCloudInit)


def test_a_seed_goes_only_when_it_is_spent_and_ejected() -> None:
    spent = seeded(status=made(seed=record(), cloudInitDone=True))
    assert isinstance(plan(facts(spent, existence=present(), seed=seed("Uploaded"))), DropSeed)
    assert isinstance(plan(facts(spent, existence=present(), seed=seed("Emptying"))), DropSeed)
    assert isinstance(plan(facts(spent, existence=present(), seed=seed("Uploaded", attached=True))), Settled)
    for over in (seed("Removed"), seed("Emptied"), seed("Uploaded", kept=True)):
        assert isinstance(plan(facts(spent, existence=present(), seed=over)), Settled)
    unread = seeded(status=made(seed=record()))
    assert isinstance(plan(facts(unread, existence=present(), seed=seed("Uploaded"))), Settled)


def test_the_seed_of_a_vm_that_is_gone_goes_before_the_object() -> None:
    vm = seeded(status=made(seed=record()), deleting=True)
    assert isinstance(plan(facts(vm, existence=Absent(), seed=seed("Uploaded"))), DropSeed)
    assert isinstance(plan(facts(vm, existence=Absent(), seed=seed("Emptied"))), DropSeed)
    assert isinstance(plan(facts(vm, existence=Absent(), seed=seed("Removed"))), Release)
    assert isinstance(plan(facts(vm, existence=Absent(), seed=seed("Uploaded", kept=True))), Release)


def test_ready_waits_for_cloud_init_only_where_it_is_asked_to() -> None:
    waiting = a_vm(readiness={"cloudInit": True}, status=made())
    step = plan(facts(waiting, existence=present(), first_boot=RUNNING))
    assert isinstance(step, Wait)
    assert step.reason == "CloudInitRunning"
    assert isinstance(plan(facts(waiting, existence=present(), first_boot=FAILED)), Blocked)
    assert isinstance(plan(facts(waiting, existence=present(), first_boot=DONE)), NoteCloudInit)
    indifferent = seeded(status=made(seed=record()))
    assert isinstance(plan(facts(indifferent, existence=present(), first_boot=FAILED)), Settled)


def test_the_condition_tells_how_far_it_is() -> None:
    def shown(**changes: Any) -> tuple[str, str] | None:
        found = facts(existence=present(), **changes)
        conditions = vm_conditions(found, verdict_of_step(plan(found)))
        return next(((each.status, each.reason) for each in conditions if each.type == "CloudInit"), None)

    waiting = a_vm(readiness={"cloudInit": True}, status=made())
    assert shown(vm=waiting, first_boot=RUNNING) == ("False", "CloudInitRunning")
    assert shown(vm=waiting, first_boot=FAILED) == ("False", "CloudInitFailed")
    assert shown(vm=waiting) == ("Unknown", "NotRunning")
    done = a_vm(readiness={"cloudInit": True}, status=made(cloudInitDone=True))
    assert shown(vm=done) == ("True", "Done")
    assert shown(vm=a_vm(status=made())) is None


# Its drive

NATIVE = {"scsi0": "local-lvm:vm-10000-disk-0,size=2G", "ide0": "local-lvm:vm-10000-cloudinit,media=cdrom"}


def drives(vm: ProxmoxVM, config: dict[str, str]) -> dict[str, str | None]:
    """What is written to CD-ROM drives; None is a removal."""
    found = diff(wanted(vm), config)
    written: dict[str, str | None] = {
        put.key: put.value for put in found.puts if "cdrom" in (put.value or "")
    }
    return written | {remove.key: None for remove in found.removes}


def test_the_seed_takes_the_place_of_the_native_drive() -> None:
    vm = seeded(status=made(started=False, seed=record()))
    assert drives(vm, NATIVE) == {"ide0": f"{VOLUME},media=cdrom"}
    both = {**NATIVE, "ide2": f"{VOLUME},media=cdrom"}
    assert drives(vm, both) == {"ide0": None}


def test_the_seed_finds_a_free_slot_and_what_is_there_stays() -> None:
    vm = seeded(status=made(started=False, seed=record()))
    assert drives(vm, {"ide2": "local:iso/other.iso,media=cdrom"}) == {"ide0": f"{VOLUME},media=cdrom"}
    full = {f"{bus}{number}": "none,media=cdrom" for bus in ("ide", "sata") for number in range(6)}
    assert [problem.reason for problem in diff(wanted(vm), full).problems] == ["NoCloudInitDrive"]


INHERITED = {**NATIVE, "ide2": "local:iso/pvm-seed-9000-00000000.iso,media=cdrom"}


def test_the_seed_of_the_source_never_reaches_the_guest_of_a_clone() -> None:
    own = seeded(status=made(started=False, seed=record()))
    assert drives(own, INHERITED) == {"ide2": f"{VOLUME},media=cdrom", "ide0": None}
    for without in (
        a_vm(status=made(started=False)),
        a_vm(status=made(started=False, seed=record("Removed"))),
    ):
        assert drives(without, INHERITED) == {"ide2": "none,media=cdrom"}
    for started in (made(), made(cloudInitDone=True), made(cloudInitDone=True, seed=record())):
        assert drives(a_vm(status=started), INHERITED) == {}


def test_a_seed_that_is_not_uploaded_is_not_attached() -> None:
    assert drives(seeded(status=made(started=False, seed=record("Uploading"))), NATIVE) == {}


def test_a_spent_seed_is_ejected_and_an_ejected_one_is_never_attached_again() -> None:
    spent = seeded(status=made(seed=record(), cloudInitDone=True))
    assert drives(spent, {"ide2": f"{VOLUME},media=cdrom,size=66K"}) == {"ide2": "none,media=cdrom"}
    assert drives(spent, {"ide2": "none,media=cdrom"}) == {}
    ejected_by_hand = seeded(status=made(seed=record()))
    assert drives(ejected_by_hand, {"ide2": "none,media=cdrom"}) == {}


def test_no_native_cloud_init_comes_to_a_guest_that_was_booted_with_a_seed() -> None:
    networks = [{"name": "net0", "ipv4": {"address": "10.0.0.5/24"}}]
    config = {"scsi0": "local-lvm:vm-10000-disk-0,size=2G", "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0"}
    seeded_before = a_vm(networks=networks, status=made(seed=record("Removed")))
    never_seeded = a_vm(networks=networks, status=made())
    assert not any("ipconfig" in put.key for put in diff(wanted(seeded_before), config).puts)
    assert any("ipconfig" in put.key for put in diff(wanted(never_seeded), config).puts)


# Where it may be


def test_the_default_seed_storage_is_everybodys_and_for_seeds_only() -> None:
    access = access_of(cluster(TEMPLATES, defaults={"seedStorage": "nfs"}), {})
    assert violations(a_vm(cloudInit={"userData": "#cloud-config\n"}), access) == []
    assert violations(seeded(cloudInit={**WITH_DATA, "seedStorage": "nfs"}), access) == []
    disk = {"name": "data", "size": "1Gi", "storage": "nfs"}
    assert any("storage nfs is not granted" in found for found in violations(a_vm(disks=[disk]), access))


def test_another_seed_storage_needs_a_grant() -> None:
    vm = seeded()
    (found,) = violations(vm, access_of(cluster(TEMPLATES), {}))
    assert found == "spec.cloudInit.seedStorage: storage local is not granted (access[].storages)"
    assert violations(vm, access_of(cluster({**TEMPLATES, "storages": ["local"]}), {})) == []


def test_a_seed_that_keeps_the_vm_on_its_node_is_named_as_one() -> None:
    check = Precondition(running=True, disks=(LocalDisk(volume=VOLUME, slot="ide2", size=0, cdrom=True),))
    wish = Wish(nodes=("pve2",), cause="the test")
    terms = Terms(access=access_of(cluster({"allow": "Everything"}), {}))
    found = decide(seeded(status=made()), wish, {}, check, [], terms, home="pve1", failed={})
    assert isinstance(found, Staying)
    assert "user data of the first boot" in found.message
