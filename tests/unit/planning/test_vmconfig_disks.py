"""The life of disks: attached again, moved, grown, detached and destroyed, and what has to be known before."""

from typing import Any

import pytest

from proxmox_operator.planning import vmconfig
from proxmox_operator.planning.diskfacts import DiskFacts, Room
from proxmox_operator.planning.guestfs import Filesystem, GuestDisk
from proxmox_operator.planning.vmconfig import Remove, diff, disk_records, questions
from unit.planning.make import a_vm, made, wanted
from unit.planning.test_vmconfig import CONFIG, DATA, STORAGES, changes

VOLUME = "local-lvm:vm-10000-disk-1"
RECORD = {"name": "data", "slot": "scsi1", "volume": VOLUME, "size": "5Gi"}
ATTACHED = {"scsi1": f"{VOLUME},serial=data,size=5G"}
UNUSED = {"unused0": VOLUME}
ROOT = Filesystem(
    mountpoint="/", device="sda1", type="ext4", disks=(GuestDisk(bus="scsi", target=0, unit=0),)
)
SRV = Filesystem(
    mountpoint="/srv", device="sdb1", type="ext4", disks=(GuestDisk(bus="scsi", target=0, unit=1),)
)
OFF = DiskFacts(stopped=True)
LET_GO = DiskFacts(filesystems=(ROOT,))
MOUNTED = DiskFacts(filesystems=(ROOT, SRV))


def compared(spec: dict[str, Any], seen: DiskFacts, status: dict[str, Any]):
    return wanted(a_vm(status=made(**status), **spec), seen=seen)


def plan(
    config: dict[str, str], *, seen: DiskFacts = OFF, spec: dict[str, Any] | None = None, **status: Any
) -> dict[str, Any]:
    """What is done, by key; what waits, by reason."""
    found = diff(compared(spec or {}, seen, status), CONFIG | config)
    assert found.problems == ()
    return (
        {put.key: put.value for put in found.puts}
        | {removal.key: None for removal in found.removes}
        | {held.reason: "held" for held in found.held}
    )


def records(config: dict[str, str], seen: DiskFacts = OFF, *, listed: Any = (), **status: Any) -> Any:
    """``status.disks`` (slot, volume, onRemove) and ``status.detachedDisks`` (volume), by name."""
    found = disk_records(compared({"disks": list(listed)}, seen, status), CONFIG | config)
    attached = {disk.name: (disk.slot, disk.volume, disk.on_remove) for disk in found.disks}
    return attached, {disk.name: disk.volume for disk in found.detached}


GONE_FOR_GOOD = {"on_remove": "Delete"}


@pytest.mark.parametrize(
    ("config", "seen", "expected"),
    [
        pytest.param(ATTACHED, OFF, {"scsi1": None}, id="the VM is off"),
        pytest.param(ATTACHED, LET_GO, {"scsi1": None}, id="the guest has let go of it"),
        pytest.param(ATTACHED, MOUNTED, {"DiskInUse": "held"}, id="it is mounted"),
        pytest.param(ATTACHED, DiskFacts(), {"DiskInUse": "held"}, id="the agent is silent"),
        pytest.param(ATTACHED | {"protection": "1"}, OFF, {"Protected": "held"}, id="the VM is protected"),
        pytest.param(UNUSED, OFF, {}, id="it is detached already"),
        pytest.param(
            {"scsi4": f"{VOLUME},serial=data,size=5G"},
            OFF,
            {"scsi4": None},
            id="it was put into another slot by hand",
        ),
        pytest.param(
            {"scsi1": "ceph:vm-10000-disk-0,serial=data,size=5G"} | UNUSED,
            OFF,
            {"NotRecorded": "held"},
            id="it was moved by hand, and the source kept: only its record tells one from the other",
        ),
        pytest.param(
            {"scsi2": "local-lvm:vm-10000-disk-9,serial=theirs,size=5G"} | ATTACHED,
            OFF,
            {"scsi1": None},
            id="disks of others stay",
        ),
        pytest.param(
            {}, DiskFacts(current=CONFIG | ATTACHED), {"UnplugRefused": "held"}, id="the guest held on to it"
        ),
        pytest.param({}, DiskFacts(current=CONFIG), {}, id="it is gone"),
        pytest.param({}, DiskFacts(), {}, id="nobody knows where it is"),
    ],
)
def test_a_disk_taken_off_the_list(config, seen, expected):
    assert plan(config, seen=seen, disks=[RECORD]) == expected
    if "unused0" not in config:
        assert plan(config, seen=seen, disks=[RECORD | GONE_FOR_GOOD]) == expected


@pytest.mark.parametrize(
    ("snapshots", "expected"),
    [
        pytest.param({}, {"unused0": None}, id="that exact volume"),
        pytest.param({"before": CONFIG}, {"unused0": None}, id="which no snapshot holds"),
        pytest.param({"before": CONFIG | ATTACHED}, {"SnapshotsPrevent": "held"}, id="not while one does"),
        pytest.param(None, {"SnapshotsUnknown": "held"}, id="nor while nobody knows"),
    ],
)
def test_a_disk_is_destroyed_only_where_its_entry_said_so(snapshots, expected):
    others = {"unused1": "local-lvm:vm-10000-disk-7"}
    seen = DiskFacts(stopped=True, snapshots=snapshots)
    assert plan(UNUSED | others, seen=seen, disks=[RECORD | GONE_FOR_GOOD]) == expected
    assert plan(UNUSED | others, seen=seen, disks=[RECORD]) == {}
    assert plan(others, seen=seen, disks=[RECORD | GONE_FOR_GOOD]) == {}


def test_a_disk_of_which_fifty_are_detached_stays():
    kept = [{"name": f"d{number}", "volume": f"a:{number}"} for number in range(50)]
    assert plan(ATTACHED, disks=[RECORD], detachedDisks=kept) == {"TooManyDetachedDisks": "held"}
    assert plan(ATTACHED, disks=[RECORD | GONE_FOR_GOOD], detachedDisks=kept) == {"scsi1": None}
    assert plan(ATTACHED, disks=[RECORD], detachedDisks=kept[1:]) == {"scsi1": None}


def test_a_disk_without_its_serial_number_is_detached_but_never_on_its_way_to_be_destroyed():
    nameless = {"scsi1": f"{VOLUME},size=5G"}
    assert plan(nameless, disks=[RECORD]) == {"scsi1": None}
    assert plan(nameless, disks=[RECORD | GONE_FOR_GOOD]) == {"DiskUnconfirmed": "held"}


HERE = {"node": "pve1"}
RENAMED = {
    "scsi0": f"{VOLUME},size=20G",
    "scsi1": "local-lvm:vm-10000-disk-2,serial=data,size=5G",
    "unused0": "local-lvm:vm-10000-disk-3",
}
"""After a move with its local disks: the boot disk has the name that data had."""


def moved_to(node: str, **known: Any) -> DiskFacts:
    rooms = {"ceph": Room(content=frozenset(), free=None, shared=True)}
    return DiskFacts(node=node, stopped=True, storages=rooms, snapshots={}, current=CONFIG | RENAMED, **known)


@pytest.mark.parametrize("node", ["pve1", "pve2"])
def test_a_volume_that_got_the_name_of_another_is_not_taken_for_it(node):
    seen = moved_to(node)
    status: Any = {"disks": [RECORD | HERE | GONE_FOR_GOOD]}
    assert plan(RENAMED, seen=seen, spec={"disks": [DATA]}, **status) == {}
    assert records(RENAMED, seen, listed=[DATA], **status)[0]["data"][:2] == (
        "scsi1",
        "local-lvm:vm-10000-disk-2",
    )
    assert plan(RENAMED, seen=seen, **status) == {"NotRecorded": "held"}


@pytest.mark.parametrize("gone", ["scsi1", None], ids=["without the disk", "with it"])
def test_after_a_move_no_unused_volume_is_destroyed_or_attached_for_its_name(gone):
    there = {key: value for key, value in RENAMED.items() if key != gone}
    old = RECORD | HERE | GONE_FOR_GOOD | {"volume": "local-lvm:vm-10000-disk-3", "name": "logs"}
    assert plan(there, seen=moved_to("pve1"), disks=[old]) == {"unused0": None}
    assert plan(there, seen=moved_to("pve2"), disks=[old]) == {"DiskUnconfirmed": "held"}
    assert records(there, moved_to("pve2"), disks=[old])[0].keys() == {"logs"}
    kept: Any = {"detachedDisks": [{"name": "logs", "volume": "local-lvm:vm-10000-disk-3", "node": "pve1"}]}
    logs = {"disks": [DATA | {"name": "logs"}]}
    found = diff(compared(logs, moved_to("pve2"), kept), CONFIG | there)
    assert [problem.reason for problem in found.problems] == ["DiskAmbiguous"]
    assert "unused disks with serial=logs" in found.problems[0].message
    assert plan(there, seen=moved_to("pve1"), spec=logs, **kept).keys() == {"scsi2"}


def test_on_a_shared_storage_a_volume_keeps_its_name_wherever_the_vm_goes():
    old = RECORD | HERE | GONE_FOR_GOOD | {"volume": "ceph:vm-10000-disk-1"}
    assert plan({"unused0": "ceph:vm-10000-disk-1"}, seen=moved_to("pve2"), disks=[old]) == {"unused0": None}


def test_the_record_of_a_lost_disk_can_be_ended_after_a_move_too():
    gone = RECORD | HERE | GONE_FOR_GOOD
    assert records({}, DiskFacts(node="pve2", current=CONFIG), disks=[gone]) == ({}, {})


def test_a_data_disk_that_is_first_in_the_boot_order_is_not_the_boot_disk():
    config = ATTACHED | {"boot": "order=scsi1;scsi0"}
    spec = {"disks": [DATA], "bootDisk": {"size": "20Gi", "storage": "local-lvm"}}
    assert plan(config, spec=spec, disks=[RECORD]) == {}
    spec["bootDisk"] = {"size": "30Gi"}
    found = diff(compared(spec, OFF, {"disks": [RECORD]}), CONFIG | config)
    assert [grow.slot for grow in found.grows] == ["scsi0"]


def test_after_a_lost_status_no_blank_disk_is_made_beside_one_that_may_be_ours():
    spec = {"disks": [DATA]}
    assert changes(spec, UNUSED) == {"DiskAmbiguous": ...}
    assert changes(spec, UNUSED, status={"started": False}).keys() == {"scsi1"}
    assert changes(spec, UNUSED, status={"disks": [RECORD | {"name": "logs"}]}).keys() == {"scsi2"}


def test_an_event_names_the_disk_and_its_volume():
    found = diff(compared({}, OFF, {"disks": [RECORD]}), CONFIG | ATTACHED)
    removal = found.removes[0]
    assert isinstance(removal, Remove)
    assert removal.event == "DiskDetached"
    assert removal.sentence() == f"scsi1: detach disk data, volume {VOLUME}"


KEPT: Any = {"detachedDisks": [{"name": "data", "volume": VOLUME}]}


@pytest.mark.parametrize("status", [{"disks": [RECORD]}, KEPT], ids=["detached by others", "detached by us"])
@pytest.mark.parametrize(
    ("config", "running", "expected"),
    [
        pytest.param(UNUSED, {}, {"scsi1": f"{VOLUME},serial=data"}, id="its volume comes back"),
        pytest.param(
            UNUSED | {"scsi1": "a:1,serial=theirs,size=1G"},
            {},
            {"scsi2": f"{VOLUME},serial=data"},
            id="beside what is there now",
        ),
        pytest.param(
            UNUSED,
            {"scsi1": "a:1,size=1G"},
            {"scsi2": f"{VOLUME},serial=data"},
            id="and beside what only a boot will take away",
        ),
        pytest.param(
            {},
            ATTACHED,
            {"scsi1": f"{VOLUME},serial=data"},
            id="or stays, where it was to go at the next boot",
        ),
        pytest.param(
            {"scsi1": "a:1,size=1G"},
            ATTACHED,
            {"ChangePending": "held"},
            id="unless another is to come there",
        ),
    ],
)
def test_a_disk_that_was_attached_before_gets_its_own_volume(status, config, running, expected):
    seen = DiskFacts(current=CONFIG | config | running)
    assert plan(config, seen=seen, spec={"disks": [DATA]}, **status) == expected


@pytest.mark.parametrize("status", [{"disks": [RECORD]}, KEPT], ids=["missing", "detached and lost"])
def test_no_blank_disk_ever_takes_its_place(status):
    assert changes({"disks": [DATA]}, status=status) == {"DiskMissing": ...}


def test_nothing_is_put_into_a_slot_that_may_not_be_free():
    assert plan({}, seen=DiskFacts(), spec={"disks": [DATA]}) == {"NotObserved": "held"}
    running = DiskFacts(current=CONFIG | {"scsi1": "a:1,size=1G"})
    assert plan({}, seen=running, spec={"disks": [DATA]}) == {"scsi2": "local-lvm:5,serial=data"}


@pytest.mark.parametrize(
    ("config", "seen", "attached", "detached"),
    [
        pytest.param(ATTACHED, OFF, "scsi1", False, id="still attached"),
        pytest.param({"scsi3": f"{VOLUME},size=5G"}, OFF, "scsi3", False, id="followed"),
        pytest.param(UNUSED, OFF, None, True, id="detached"),
        pytest.param({}, DiskFacts(current=CONFIG), None, True, id="gone, which is no reason to forget it"),
        pytest.param({}, DiskFacts(current=CONFIG | ATTACHED), "scsi1", False, id="waits for a boot"),
        pytest.param({}, DiskFacts(), "scsi1", False, id="not known"),
        pytest.param(
            {"lock": "rollback"}, DiskFacts(current=CONFIG), "scsi1", False, id="the config is being written"
        ),
    ],
)
def test_the_record_of_a_disk_taken_off_the_list(config, seen, attached, detached):
    known, kept = records(config, seen, disks=[RECORD])
    assert known == ({} if attached is None else {"data": (attached, VOLUME, "Detach")})
    assert kept == ({"data": VOLUME} if detached else {})


def test_the_record_of_a_disk_that_is_destroyed_ends_with_it_and_not_before():
    for config in (ATTACHED, UNUSED):
        assert records(config, disks=[RECORD | GONE_FOR_GOOD])[0].keys() == {"data"}
    assert records({}, DiskFacts(current=CONFIG), disks=[RECORD | GONE_FOR_GOOD]) == ({}, {})


def test_a_disk_that_is_listed_again_is_no_longer_among_the_detached_ones():
    listed = [DATA | {"onRemove": "Delete"}]
    before = records(UNUSED, listed=listed, **KEPT)
    assert before == ({"data": ("", VOLUME, "Delete")}, {})
    assert records(ATTACHED, listed=listed, **KEPT) == ({"data": ("scsi1", VOLUME, "Delete")}, {})
    others = [{"name": "logs", "volume": "ceph:vm-10000-disk-8"}]
    assert records({}, listed=listed, detachedDisks=others)[1] == {"logs": "ceph:vm-10000-disk-8"}


def test_what_an_entry_says_of_its_removal_is_remembered():
    assert records(ATTACHED, listed=[DATA], disks=[RECORD])[0]["data"][2] == "Detach"
    forever = [DATA | {"onRemove": "Delete"}]
    assert records(ATTACHED, listed=forever, disks=[RECORD])[0]["data"][2] == "Delete"
    assert records({}, listed=forever, disks=[RECORD])[0]["data"] == ("scsi1", VOLUME, "Delete")


ELSEWHERE = {"name": "data", "size": "5Gi", "storage": "ceph"}


def moved(
    config: dict[str, str] | None = None,
    *,
    to: str = "ceph",
    spec: dict[str, Any] | None = None,
    running: dict[str, str] | None = None,
    **options: Any,
) -> Any:
    seen = {} if running is None else {"current": CONFIG | running}
    whole = spec or {"disks": [ELSEWHERE | {"storage": to}]}
    return changes(whole, ATTACHED | (config or {}), status={"disks": [RECORD]}, seen=seen, **options)


def test_a_disk_is_moved_before_its_options_and_its_size_are_changed():
    assert moved(spec={"disks": [ELSEWHERE | {"size": "9Gi", "ssd": True}]}) == {"move scsi1": "ceph"}
    assert moved(spec={"bootDisk": {"storage": "ceph", "size": "30Gi"}, "disks": [DATA]}) == {
        "move scsi0": "ceph"
    }


@pytest.mark.parametrize(
    ("to", "snapshots", "reason", "words"),
    [
        pytest.param("nfs", {}, "StorageNotFound", "storage nfs is not available", id="no such storage"),
        pytest.param("iso", {}, "StorageNotUsable", "takes no disk images", id="one for ISO images"),
        pytest.param("tiny", {}, "StorageFull", "needs 5Gi, and storage tiny has 4Gi free", id="a small one"),
        pytest.param(
            "ceph",
            {"b": CONFIG | ATTACHED, "a": CONFIG | ATTACHED, "c": CONFIG},
            "SnapshotsPrevent",
            "(a, b): delete them",
            id="snapshots hold it",
        ),
    ],
)
def test_what_prevents_a_move_is_said_with_the_remedy(to, snapshots, reason, words):
    seen = DiskFacts(current=CONFIG | ATTACHED, snapshots=snapshots, storages=STORAGES)
    spec = {"disks": [ELSEWHERE | {"storage": to}]}
    found = diff(compared(spec, seen, {"disks": [RECORD]}), CONFIG | ATTACHED)
    assert found.moves == ()
    assert [problem.reason for problem in found.problems] == [reason]
    assert words in found.problems[0].message
    assert found.problems[0].message.startswith("spec.disks[data].storage: ")
    assert "or set local-lvm" in found.problems[0].message


@pytest.mark.parametrize(
    "running",
    [
        pytest.param({}, id="it is not plugged yet"),
        pytest.param({"scsi1": f"{VOLUME},serial=data,size=5G,ssd=1"}, id="an option changes"),
        pytest.param({"scsi1": "local-lvm:vm-10000-disk-7,serial=data,size=5G"}, id="the volume changes"),
    ],
)
def test_a_disk_of_which_a_change_waits_for_a_boot_is_not_moved(running):
    """The change names the volume that the move would free."""
    assert moved(running=running) == {"ChangePending": "held"}


def test_a_disk_is_not_moved_while_anything_about_it_is_unknown():
    assert plan(ATTACHED, seen=DiskFacts(), spec={"disks": [ELSEWHERE]}, disks=[RECORD]) == {
        "NotObserved": "held"
    }


def test_a_disk_that_is_not_plugged_yet_grows_later():
    spec, status = {"disks": [DATA | {"size": "7Gi"}]}, {"disks": [RECORD]}
    assert changes(spec, ATTACHED, status=status, seen={"current": CONFIG}) == {"ChangePending": "held"}
    assert changes(spec, ATTACHED, status=status) == {"grow scsi1": 7}


def test_a_size_that_proxmox_has_forgotten_is_written_down_not_grown_for_ever():
    """A change that waited for a boot brings the old size back into the config; the volume keeps the new one."""
    spec, grown = {"disks": [DATA | {"size": "7Gi"}]}, {"grown": frozenset({("scsi1", 7 << 30)})}
    written = changes(spec, ATTACHED, status={"disks": [RECORD]}, seen=grown)
    assert written == {"scsi1": f"{VOLUME},serial=data,size=5G"}


@pytest.mark.parametrize(
    ("spec", "config", "status", "asked"),
    [
        pytest.param({}, {}, {}, set(), id="no disks"),
        pytest.param({"disks": [DATA]}, ATTACHED, {"disks": [RECORD]}, set(), id="all is well"),
        pytest.param({"disks": [DATA]}, {}, {}, set(), id="a new disk"),
        pytest.param({"disks": [DATA]}, UNUSED, {"disks": [RECORD]}, set(), id="one to attach again"),
        pytest.param(
            {"disks": [ELSEWHERE]},
            ATTACHED,
            {"disks": [RECORD]},
            {"snapshots"},
            id="one to move",
        ),
        pytest.param(
            {"bootDisk": {"storage": "ceph"}},
            {},
            {},
            {"snapshots"},
            id="the boot disk",
        ),
        pytest.param({}, ATTACHED, {"disks": [RECORD]}, {"guest"}, id="one to detach"),
        pytest.param({}, UNUSED, {"disks": [RECORD]}, set(), id="one that is detached"),
        pytest.param(
            {}, UNUSED, {"disks": [RECORD | GONE_FOR_GOOD]}, {"snapshots"}, id="one to be destroyed"
        ),
        pytest.param({}, {}, {"disks": [RECORD]}, set(), id="one that cannot be found"),
    ],
)
def test_only_what_the_plan_depends_on_is_asked_for(spec, config, status, asked):
    assert questions(compared(spec, DiskFacts(), status), CONFIG | config) == asked


def test_before_the_first_boot_nothing_can_wait_for_one():
    vm = a_vm(status=made(started=False), disks=[DATA])
    assert questions(wanted(vm), CONFIG) == frozenset()
    assert [put.key for put in diff(wanted(vm), CONFIG).puts if put.key.startswith("scsi")] == ["scsi1"]


@pytest.mark.parametrize(
    ("config", "status", "lost"),
    [
        pytest.param(ATTACHED, {}, (), id="a disk of nobody's that is attached"),
        pytest.param(UNUSED, {}, (VOLUME,), id="one that somebody detached"),
        pytest.param(UNUSED, KEPT, (f"data ({VOLUME})",), id="one that we detached"),
        pytest.param(ATTACHED, KEPT, (f"data ({VOLUME})",), id="which a rollback has attached again"),
        pytest.param(
            ATTACHED, {"disks": [RECORD]}, (f"data ({VOLUME})",), id="one to be detached that is not yet"
        ),
        pytest.param(UNUSED, {"disks": [RECORD | GONE_FOR_GOOD]}, (), id="one to be destroyed anyway"),
        pytest.param({}, KEPT, (), id="one that is not there any more"),
    ],
)
def test_what_would_be_lost_with_the_vm(config, status, lost):
    assert vmconfig.at_stake(a_vm(status=made(**status)), CONFIG | config) == lost


def test_a_disk_that_only_the_next_boot_detaches_would_be_lost_too():
    vm = a_vm(status=made(disks=[RECORD]))
    assert vmconfig.at_stake(vm, CONFIG, running=CONFIG | ATTACHED) == (f"data ({VOLUME})",)


def test_after_a_move_a_volume_of_a_disk_to_be_destroyed_may_be_one_to_be_kept():
    vm = a_vm(status=made(disks=[RECORD | GONE_FOR_GOOD | HERE]))
    assert vmconfig.at_stake(vm, CONFIG | UNUSED, node="pve1") == ()
    assert vmconfig.at_stake(vm, CONFIG | UNUSED, node="pve2") == (f"data ({VOLUME})",)
