"""Typed VM calls against the simulator: what is sent, what comes back, and what counts as proof of absence."""

import asyncio
import threading
from urllib.parse import unquote

import pytest

from proxmox_operator import errors
from proxmox_operator.planning.guestfs import GuestDisk
from proxmox_operator.planning.vmconfig import PendingChange
from proxmox_operator.proxmox.agent import (
    AgentGate,
    ExecResult,
    parse_filesystems,
    parse_interfaces,
    parse_result,
)
from proxmox_operator.proxmox.audit import Actor, current_actor
from proxmox_operator.proxmox.client import Limits
from proxmox_operator.proxmox.errors import (
    AgentUnavailable,
    AlreadyRunning,
    Locked,
    NotHere,
    NotRunning,
    Taken,
)
from proxmox_operator.proxmox.request import Request
from proxmox_operator.proxmox.slots import AllocationSlots
from proxmox_operator.proxmox.tasks import Outcome, TaskResult, TaskTracker
from proxmox_operator.proxmox.transport import Lost, Refused
from proxmox_operator.proxmox.vm import Presence, VMs
from pvesim import PveSim
from pvesim.client import Api

from .fakes import FakeClock, MockTransport, client_over, until

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKkqvBcPz4tcYVCFSUE6gPYdTD6D5NkIFCKSrAvF6ABC me@home"


async def ended(session, upid):
    done = asyncio.get_running_loop().create_future()
    session.tasks.watch(upid, done.set_result)
    return await asyncio.wait_for(done, 10)


async def failure(session, call):
    """The error of a call, which Proxmox tells at once or as the end of a task."""
    try:
        upid = await call
    except errors.OperatorError as error:
        return error
    return (await ended(session, upid)).error


async def test_a_clone_carries_name_description_and_flags(sim, open_session):
    session = open_session(sim)
    result = await ended(
        session,
        await session.vms.clone("pve1", 9000, 100, name="web", description="<!-- mark -->", full=True),
    )
    assert result.outcome is Outcome.OK
    config = await session.vms.config("pve1", 100)
    assert (config.raw["name"], config.raw["description"], config.is_template) == (
        "web",
        "<!-- mark -->",
        False,
    )
    (call,) = sim.recorder.matching("POST", "/clone$")
    assert str(call.params["full"]) == "1"
    assert "storage" not in call.params


async def test_a_config_is_text_with_its_digest_and_the_lock_it_holds(sim, open_session):
    sim.add_vm(100, cores=4)
    session = open_session(sim)
    config = await session.vms.config("pve1", 100)
    assert config.raw["cores"] == "4"
    assert config.digest
    assert "digest" not in config.raw
    assert config.lock is None
    sim.set_lock(100, "backup")
    assert (await session.vms.config("pve1", 100)).lock == "backup"


async def test_a_write_with_an_old_digest_changes_nothing(sim, open_session):
    sim.add_vm(100, cores=1)
    session = open_session(sim)
    config = await session.vms.config("pve1", 100)
    sim.edit_config(100, cores=8)
    with pytest.raises(errors.Outdated):
        await session.vms.set_config("pve1", 100, {"cores": 2}, digest=config.digest)
    assert str(sim.world().vm(100)["cores"]) == "8"


async def test_a_short_write_is_done_at_once_and_the_next_needs_the_new_digest(sim, open_session):
    sim.add_vm(100, balloon=512)
    session = open_session(sim)
    first = await session.vms.config("pve1", 100)
    upid = await session.vms.set_config(
        "pve1", 100, {"cores": 2, "sshkeys": KEY, "onboot": True}, digest=first.digest, delete=["balloon"]
    )
    assert upid is None
    second = await session.vms.config("pve1", 100)
    assert (second.raw["cores"], second.raw["onboot"]) == ("2", "1")
    assert unquote(second.raw["sshkeys"]) == KEY
    assert "balloon" not in second.raw
    assert second.digest != first.digest


async def test_a_disk_moves_to_another_storage_and_its_old_volume_is_freed(sim, open_session):
    sim.add_storage("ceph", "rbd", size_gib=100)
    sim.add_vm(100, running=True)
    session = open_session(sim)
    old = await session.vms.config("pve1", 100)
    assert await session.vms.volumes("pve1", 100, "local-lvm") == {"local-lvm:vm-100-disk-0"}
    upid = await session.vms.move_disk("pve1", 100, disk="scsi0", storage="ceph", digest=old.digest)
    assert (await ended(session, upid)).outcome is Outcome.OK
    assert (await session.vms.config("pve1", 100)).raw["scsi0"].startswith("ceph:vm-100-disk-0")
    assert await session.vms.volumes("pve1", 100, "local-lvm") == frozenset()
    with pytest.raises(errors.Outdated):
        await session.vms.move_disk("pve1", 100, disk="scsi0", storage="local-lvm", digest=old.digest)


async def test_a_move_takes_a_slot_of_the_storage_that_is_written_to(sim, open_session):
    sim.add_storage("ceph", "rbd", size_gib=100)
    sim.add_vm(100)
    session = open_session(sim)
    config = await session.vms.config("pve1", 100)
    for _ in range(2):
        session.slots.take("ceph", None)
    with pytest.raises(errors.Waiting):
        await session.vms.move_disk("pve1", 100, disk="scsi0", storage="ceph", digest=config.digest)


def snapshot(sim, directory):
    """Somebody takes a snapshot named before of VM 100."""
    with Api(sim, directory) as api:
        assert api.ended(api.post("/nodes/pve1/qemu/100/snapshot", snapname="before")) == "OK"


async def test_snapshots_are_told_with_the_volumes_that_they_hold(sim, open_session, tmp_path):
    sim.add_vm(100)
    session = open_session(sim)
    assert await session.vms.snapshots("pve1", 100) == {}
    snapshot(sim, tmp_path)
    found = await session.vms.snapshots("pve1", 100)
    assert found.keys() == {"before"}
    assert found["before"]["scsi0"].startswith("local-lvm:vm-100-disk-0")


async def test_a_disk_that_a_snapshot_holds_is_neither_moved_nor_destroyed(sim, open_session, tmp_path):
    sim.add_storage("ceph", "rbd", size_gib=100)
    sim.add_vm(100)
    session = open_session(sim)
    snapshot(sim, tmp_path)
    config = await session.vms.config("pve1", 100)
    move = session.vms.move_disk("pve1", 100, disk="scsi0", storage="ceph", digest=config.digest)
    error = await failure(session, move)
    assert (type(error), error.reason) == (errors.NeedsHuman, "SnapshotsPrevent")
    sim.edit_config(100, delete="scsi0")
    config = await session.vms.config("pve1", 100)
    with pytest.raises(errors.NeedsHuman) as refused:
        await session.vms.set_config("pve1", 100, {}, delete=["unused0"], digest=config.digest)
    assert refused.value.reason == "SnapshotsPrevent"


async def test_a_disk_only_grows(sim, open_session):
    sim.add_vm(100, disk_gib=8)
    session = open_session(sim)
    config = await session.vms.config("pve1", 100)
    result = await ended(
        session, await session.vms.resize("pve1", 100, disk="scsi0", size="12G", digest=config.digest)
    )
    assert result.outcome is Outcome.OK
    config = await session.vms.config("pve1", 100)
    assert "size=12G" in config.raw["scsi0"]
    error = await failure(
        session, session.vms.resize("pve1", 100, disk="scsi0", size="4G", digest=config.digest)
    )
    assert error.reason == "ShrinkRefused"


async def test_power_goes_on_and_off_and_the_live_status_follows_at_once(sim, open_session):
    sim.add_vm(100)
    session = open_session(sim)
    assert (await session.vms.status("pve1", 100)).status == "stopped"
    await ended(session, await session.vms.start("pve1", 100))
    live = await session.vms.status("pve1", 100)
    assert (live.status, live.qmpstatus, live.lock) == ("running", "running", None)
    await ended(session, await session.vms.shutdown("pve1", 100, timeout=60, force=True))
    assert (await session.vms.status("pve1", 100)).status == "stopped"
    await ended(session, await session.vms.start("pve1", 100))
    await ended(session, await session.vms.stop("pve1", 100))
    assert sim.world().vm(100).status == "stopped"


async def test_starting_what_runs_is_told_as_such(sim, open_session):
    sim.add_vm(100, running=True)
    session = open_session(sim)
    assert isinstance(await failure(session, session.vms.start("pve1", 100)), AlreadyRunning)


async def test_pending_values_are_listed_with_both_sides(sim, open_session):
    sim.add_vm(100, running=True, cores=1)
    session = open_session(sim)
    config = await session.vms.config("pve1", 100)
    await session.vms.set_config("pve1", 100, {"cores": 4}, digest=config.digest)
    config = await session.vms.config("pve1", 100)
    assert (config.raw["cores"], config.pending) == (
        "4",
        (PendingChange(key="cores", was="1", becomes="4"),),
    )


async def test_a_key_that_goes_at_the_next_boot_is_read_as_gone(sim, open_session):
    sim.add_vm(100, running=True, cores=2)
    sim.edit_config(100, delete="cores", vga="std")
    config = await open_session(sim).vms.config("pve1", 100)
    assert "cores" not in config.raw
    assert config.pending == (
        PendingChange(key="cores", was="2", becomes=None),
        PendingChange(key="vga", was=None, becomes="std"),
    )


async def test_a_config_without_a_digest_is_not_taken_for_one():
    answers = {"GET /nodes/pve1/qemu/100/pending": [{"key": "cores", "value": 1}]}
    with client_over(MockTransport(answers)) as client:
        vms = VMs(client, TaskTracker(client), AllocationSlots(2))
        with pytest.raises(errors.NeedsHuman, match="no digest"):
            await vms.config("pve1", 100)


async def test_destroying_removes_the_vm_and_its_disks_and_touches_no_stray_volume(sim, open_session):
    sim.add_vm(100, disk_gib=8)
    session = open_session(sim)
    result = await ended(session, await session.vms.destroy("pve1", 100))
    assert result.outcome is Outcome.OK
    world = sim.world()
    assert 100 not in world.vmids
    assert list(world.volumes_of(100)) == []
    (call,) = sim.recorder.matching("DELETE", "/qemu/100$")
    assert (str(call.params["purge"]), str(call.params["destroy-unreferenced-disks"])) == ("1", "0")


async def test_what_is_locked_missing_or_elsewhere_is_told_apart(sim, open_session):
    sim.add_vm(100, node="pve2")
    sim.set_lock(100, "backup")
    session = open_session(sim)
    with pytest.raises(NotHere):
        await session.vms.config("pve1", 100)
    with pytest.raises(NotHere):
        await session.vms.config("pve2", 777)
    config = await session.vms.config("pve2", 100)
    error = await failure(session, session.vms.set_config("pve2", 100, {"cores": 2}, digest=config.digest))
    assert isinstance(error, Locked)
    assert error.lock == "backup"


async def test_a_vmid_in_use_is_never_a_success(sim, open_session):
    sim.add_vm(100)
    session = open_session(sim)
    error = await failure(session, session.vms.clone("pve1", 9000, 100, name="web", description=""))
    assert isinstance(error, Taken)
    assert not await session.vms.vmid_free(100)
    assert await session.vms.vmid_free(101)


# Absence


async def test_absent_is_what_a_quorate_endpoint_says_is_free(sim, open_session):
    session = open_session(sim)
    assert (await session.vms.prove_absent(100)).presence is Presence.ABSENT


async def test_a_vm_that_the_token_may_not_see_exists_all_the_same(sim, open_session):
    sim.add_vm(100, node="pve2")
    sim.revoke(sim.token_id, "/", ["VM.Audit"])
    session = open_session(sim)
    snapshot = await session.inventory.poll()
    assert 100 not in snapshot.guests
    assert (await session.vms.prove_absent(100)).presence is Presence.EXISTS


async def test_a_node_that_is_cut_off_proves_nothing(sim, open_session):
    for endpoint in sim.endpoints.values():
        endpoint.cut_off()
    sim.add_vm(100, node="pve2")
    session = open_session(sim)
    absence = await session.vms.prove_absent(100)
    assert absence.presence is Presence.UNKNOWN
    assert "quorum" in absence.why


async def test_while_another_endpoint_has_quorum_it_is_the_one_that_is_asked(sim, open_session):
    sim.endpoints["pve1"].cut_off()
    sim.add_vm(100, node="pve2")
    session = open_session(sim)
    assert (await session.vms.prove_absent(100)).presence is Presence.EXISTS


async def test_nothing_that_answers_means_unknown(sim, open_session):
    session = open_session(sim)
    for endpoint in sim.endpoints.values():
        endpoint.down()
    assert (await session.vms.prove_absent(100)).presence is Presence.UNKNOWN


async def test_a_token_that_may_not_see_the_quorum_proves_nothing(sim, open_session):
    sim.revoke(sim.token_id, "/", ["Sys.Audit"])
    transport = MockTransport({"GET /cluster/status": Refused(403, "Permission check failed (/, Sys.Audit)")})
    transport.answers["GET /nodes/localhost/certificates/info"] = [
        {"filename": "pve-root-ca.pem", "fingerprint": "AABB"}
    ]
    transport.answers["GET /cluster/nextid"] = 100
    session = open_session(sim, connect=lambda *_: transport)
    absence = await session.vms.prove_absent(100)
    assert absence.presence is Presence.UNKNOWN
    assert "Sys.Audit" in absence.why


async def test_the_id_is_asked_of_the_endpoint_whose_quorum_was_seen_and_of_no_other():
    first = MockTransport({"GET /cluster/nextid": Lost("restarting")})
    second = MockTransport({"GET /cluster/nextid": 100, "GET /cluster/tasks": []})
    with client_over(first, second) as client:
        vms = VMs(client, TaskTracker(client), AllocationSlots(2))
        absence = await vms.prove_absent(100)
    assert absence.presence is Presence.UNKNOWN
    assert second.asked("GET /cluster/nextid") == 0


async def test_a_live_task_for_the_id_leaves_it_unknown(open_session):
    with PveSim(nodes=1, task_seconds=30) as sim:
        sim.add_vm(100)
        session = open_session(sim)
        await session.vms.destroy("pve1", 100)
        sim.vanish(100)
        absence = await session.vms.prove_absent(100)
        assert absence.presence is Presence.UNKNOWN
        assert "qmdestroy" in absence.why


async def test_a_clone_to_the_id_that_has_not_made_its_stub_yet_leaves_it_unknown(open_session):
    with PveSim(nodes=1, task_seconds=0.2, time_scale=5) as sim:  # the clone waits 5 s for the lock
        sim.add_template()
        session = open_session(sim)
        release = sim.hold_config_lock(9000)
        upid = await session.vms.clone("pve1", 9000, 100, name="web", description="")
        try:
            assert (await session.vms.prove_absent(100)).presence is Presence.ABSENT
            absence = await session.vms.prove_absent(100, clone_of=("pve1", 9000))
            assert absence.presence is Presence.UNKNOWN
            assert upid in absence.why
        finally:
            release()


# Allocation slots


async def test_slots_are_held_until_the_task_ends_and_the_next_in_line_is_woken(open_session):
    woken: list[Actor] = []
    web, db = Actor("ProxmoxVM", "shop", "web"), Actor("ProxmoxVM", "shop", "db")
    with PveSim(nodes=1, task_seconds=0.3) as sim:
        sim.add_template()
        session = open_session(sim, limits=Limits(allocations_per_storage=1), on_slot=woken.append)
        current_actor.set(web)
        await session.vms.clone("pve1", 9000, 100, name="web", description="", slots=["local-lvm"])
        current_actor.set(db)
        with pytest.raises(errors.Waiting) as caught:
            await session.vms.clone("pve1", 9000, 101, name="db", description="", slots=["local-lvm"])
        assert caught.value.reason == "StorageBusy"
        await until(lambda: woken)
        assert woken == [db]
        await session.vms.clone("pve1", 9000, 101, name="db", description="", slots=["local-lvm"])
        assert session.slots.held("local-lvm") == 1


async def test_a_refused_or_lost_call_gives_its_slots_back(sim, open_session):
    session = open_session(sim)
    for status, error in ((500, errors.Transient), (596, errors.AnswerLost)):
        sim.fail("POST", "/clone", status, "no luck", times=1)
        with pytest.raises(error):
            await session.vms.clone(
                "pve1", 9000, 100, name="web", description="", slots=["local-lvm", "local"]
            )
        assert (session.slots.held("local-lvm"), session.slots.held("local")) == (0, 0)


async def test_a_node_that_went_offline_gives_its_slots_back_once(open_session):
    woken: list[Actor] = []
    web, db = Actor("ProxmoxVM", "shop", "web"), Actor("ProxmoxVM", "shop", "db")
    with PveSim(nodes=3, task_seconds=30) as sim:
        sim.add_template()
        sim.add_template(vmid=9001, node="pve2")
        session = open_session(sim, limits=Limits(allocations_per_storage=1), on_slot=woken.append)
        await session.inventory.poll()
        current_actor.set(web)
        upid = await session.vms.clone("pve2", 9001, 100, name="web", description="", slots=["nfs"])
        current_actor.set(db)
        with pytest.raises(errors.Waiting):
            await session.vms.clone("pve1", 9000, 101, name="db", description="", slots=["nfs"])
        sim.node_down("pve2")
        await session.inventory.poll()
        assert (session.slots.held("nfs"), woken) == (0, [db])
        await session.vms.clone("pve1", 9000, 101, name="db", description="", slots=["nfs"])
        session.vms.give_up({"pve2"})
        session.tasks._finish("pve2", upid, TaskResult(upid, Outcome.OK, "OK"))
        assert session.slots.held("nfs") == 1, "the later end does not free the slot of another"


async def test_of_two_storages_none_is_kept_when_one_is_busy(sim, open_session):
    session = open_session(sim, limits=Limits(allocations_per_storage=1))
    session.slots.take("local-lvm", None)
    with pytest.raises(errors.Waiting):
        await session.vms.clone("pve1", 9000, 100, name="web", description="", slots=["local-lvm", "local"])
    assert session.slots.held("local") == 0


async def test_a_move_that_has_to_wait_for_a_slot_records_nothing_and_one_that_has_it_does_so_first(
    sim, open_session
):
    recorded: list[int] = []

    async def record() -> None:
        recorded.append(len(sim.tasks("qmmove")))

    sim.add_storage("ceph", "rbd")
    sim.add_vm(100, scsi0="local-lvm:2")
    session = open_session(sim, limits=Limits(allocations_per_storage=1))
    session.slots.take("ceph", None)
    move = {"disk": "scsi0", "storage": "ceph", "digest": sim.vm(100).digest(), "intent": record}
    with pytest.raises(errors.Waiting, match="allocationsPerStorage"):
        await session.vms.move_disk("pve1", 100, **move)
    assert recorded == []
    session.slots.release("ceph")
    assert (await ended(session, await session.vms.move_disk("pve1", 100, **move))).error is None
    assert recorded == [0]


async def test_an_intent_that_cannot_be_recorded_sends_nothing_and_keeps_no_slot(sim, open_session):
    async def refuse() -> None:
        raise errors.Outdated("the object has changed")

    sim.add_vm(100, scsi0="local-lvm:2")
    session = open_session(sim)
    with pytest.raises(errors.Outdated):
        await session.vms.move_disk(
            "pve1", 100, disk="scsi0", storage="local", digest=sim.vm(100).digest(), intent=refuse
        )
    assert (sim.tasks("qmmove"), session.slots.held("local")) == ([], 0)


# The guest agent


async def test_addresses_come_by_mac_without_loopback_and_link_local(sim, open_session):
    sim.add_vm(100, running=True, agent=1, net0="virtio=BC:24:11:00:00:01,bridge=vmbr0")
    session = open_session(sim)
    found = await session.vms.agent_addresses("pve1", 100)
    for addresses in found.values():
        assert addresses
        assert not any(a.startswith(("127.", "fe80", "169.254", "::1")) for a in addresses)


FSINFO = {
    "result": [
        {
            "name": "sda1",
            "mountpoint": "/",
            "type": "ext4",
            "disk": [
                {
                    "bus": 0,
                    "bus-type": "scsi",
                    "dev": "/dev/sda1",
                    "pci-controller": {"bus": 1, "domain": 0, "function": 0, "slot": 1},
                    "serial": "0QEMU_QEMU_HARDDISK_drive-scsi0",
                    "target": 0,
                    "unit": 0,
                }
            ],
        },
        {"name": "loop0", "mountpoint": "/snap/core/1", "type": "squashfs", "disk": []},
        {"name": "sdb1", "type": "NTFS", "disk": [{"bus-type": "scsi", "target": -1, "unit": "x"}, 7]},
        "not a filesystem",
    ]
}


def test_filesystems_are_read_and_what_cannot_be_read_proves_nothing():
    root, image, windows = parse_filesystems(FSINFO)
    assert (root.mountpoint, root.device, root.type) == ("/", "sda1", "ext4")
    serial = "0QEMU_QEMU_HARDDISK_drive-scsi0"
    assert root.disks == (GuestDisk(serial=serial, bus="scsi", target=0, unit=0),)
    assert image.disks == ()
    assert (windows.mountpoint, windows.type, windows.disks) == ("?", "ntfs", (GuestDisk(bus="scsi"),))
    answers: tuple[object, ...] = (None, {}, {"result": None}, {"result": {"error": "x"}}, [])
    for nothing in answers:
        assert parse_filesystems(nothing) == ()


async def test_a_vm_without_agent_device_needs_a_person_and_a_silent_one_time(sim, open_session):
    sim.add_vm(100, running=True)
    sim.add_vm(101, running=True, agent=1)
    sim.add_vm(102, agent=1)
    sim.vm(101).guest_os.agent = False
    session = open_session(sim)
    with pytest.raises(errors.NeedsHuman) as caught:
        await session.vms.agent_addresses("pve1", 100)
    assert caught.value.reason == "AgentNotConfigured"
    with pytest.raises(AgentUnavailable):
        await session.vms.agent_addresses("pve1", 101)
    with pytest.raises(NotRunning):
        await session.vms.agent_addresses("pve1", 102)


async def test_a_silent_agent_is_backed_off_without_moving_numbers_and_asked_at_once_after_a_start(
    sim, open_session
):
    sim.add_vm(101, agent=1)
    session = open_session(sim)
    with pytest.raises(NotRunning):
        await session.vms.agent_addresses("pve1", 101)
    told = set()
    for _ in range(3):
        with pytest.raises(AgentUnavailable) as caught:
            await session.vms.agent_addresses("pve1", 101)
        told.add(caught.value.message)
    [message] = told
    assert "asked again later" in message
    await ended(session, await session.vms.start("pve1", 101))
    assert await session.vms.agent_addresses("pve1", 101)


PING = Request("POST", ("nodes", "pve1", "qemu", "100", "agent", "ping"), mutating=False)
OTHER = Request("POST", ("nodes", "pve1", "qemu", "101", "agent", "ping"), mutating=False)


async def test_a_silent_agent_is_left_alone_ever_longer_and_only_that_one():
    clock = FakeClock()
    transport = MockTransport(
        {"POST /nodes/pve1/qemu/100/agent/ping": Refused(500, "QEMU guest agent is not running")}
    )
    with client_over(transport, clock=clock) as client:
        gate = AgentGate(client, clock)
        asked, told = [], clock()
        for _ in range(60):
            before, due = transport.asked("POST /nodes/pve1/qemu/100/agent/ping"), clock() >= told
            with pytest.raises(AgentUnavailable) as caught:
                await gate.call(100, PING)
            asked.append(transport.asked("POST /nodes/pve1/qemu/100/agent/ping"))
            assert asked[-1] - before == due, "as the error said"
            assert caught.value.asked == due
            told = clock() + caught.value.after
            clock.pass_seconds(10)
        assert asked[0] == 1
        assert 9 <= asked[-1] <= 12, "3, 4.5, 7 ... 260 s within ten minutes"
        await gate.call(101, OTHER)
        gate.forget(100)
        transport.answers.clear()
        await gate.call(100, PING)
        await gate.call(100, PING)


async def test_a_silent_agent_is_asked_as_often_as_the_caller_wants():
    clock = FakeClock()
    transport = MockTransport(
        {"POST /nodes/pve1/qemu/100/agent/ping": Refused(500, "QEMU guest agent is not running")}
    )
    with client_over(transport, clock=clock) as client:
        gate = AgentGate(client, clock)
        for _ in range(60):
            with pytest.raises(AgentUnavailable):
                await gate.call(100, PING, silence=15.0)
            clock.pass_seconds(10)
        assert transport.asked("POST /nodes/pve1/qemu/100/agent/ping") >= 30


async def test_one_agent_call_at_a_time_on_a_node():
    inside, most, gate_open = [], [], threading.Event()

    def slow(request):
        inside.append(request)
        most.append(len(inside))
        gate_open.wait(5)
        inside.remove(request)

    transport = MockTransport(otherwise={})
    transport.answers = {f"POST /nodes/pve1/qemu/{vmid}/agent/ping": slow for vmid in range(100, 105)}
    with client_over(transport) as client:
        gate = AgentGate(client, FakeClock())
        calls = [
            asyncio.create_task(
                gate.call(
                    vmid,
                    Request("POST", ("nodes", "pve1", "qemu", str(vmid), "agent", "ping"), mutating=False),
                )
            )
            for vmid in range(100, 105)
        ]
        await until(lambda: most)
        gate_open.set()
        await asyncio.gather(*calls)
    assert max(most) == 1


def interface(mac, *addresses):
    return {
        "name": "x",
        "hardware-address": mac,
        "ip-addresses": [{"ip-address": a, "ip-address-type": "t"} for a in addresses],
    }


def test_addresses_are_sorted_and_useless_ones_left_out():
    data = {
        "result": [
            interface("00:00:00:00:00:00", "127.0.0.1", "::1"),
            interface(
                "bc:24:11:00:00:01",
                "fe80::1%eth0",
                "2001:db8::5",
                "10.0.0.9",
                "10.0.0.5",
                "169.254.1.1",
                "::",
            ),
            interface("bc:24:11:00:00:02"),
            {"name": "tun0", "ip-addresses": [{"ip-address": "10.9.9.9"}]},
            interface("bc:24:11:00:00:03", "nonsense"),
        ]
    }
    assert parse_interfaces(data) == {"BC:24:11:00:00:01": ["10.0.0.5", "10.0.0.9", "2001:db8::5"]}


@pytest.mark.parametrize("data", [None, {}, {"result": None}, {"result": {"error": {"desc": "no"}}}, []])
def test_an_answer_without_interfaces_has_no_addresses(data):
    assert parse_interfaces(data) == {}


@pytest.mark.parametrize("nothing", [{"exited": 0}, {"exited": False, "out-data": "x"}, None, []])
def test_a_process_that_runs_has_no_result(nothing):
    assert parse_result(nothing) is None


def test_the_output_of_a_process_is_read_as_the_bytes_that_it_was():
    data = {"exited": 1, "exitcode": 3, "out-data": "gr\u00c3\u00bcn", "err-data": "\u2026"}
    assert parse_result(data) == ExecResult(3, "gr\u00fcn", "\u2026")
    assert parse_result({"exited": 1, "signal": 9}) == ExecResult(None, "", "")
