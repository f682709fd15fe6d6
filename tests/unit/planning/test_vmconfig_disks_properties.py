"""What holds for disks whatever is on record, in the config, and known besides."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from proxmox_operator.planning import disks
from proxmox_operator.planning.diskfacts import DiskFacts, Room
from proxmox_operator.planning.guestfs import Filesystem, GuestDisk
from proxmox_operator.planning.vmconfig import Wanted, diff, disk_records
from unit.planning.make import a_vm, made, wanted
from unit.planning.test_vmconfig import CONFIG

NAMES = ("data", "logs")
VOLUMES = tuple(f"local-lvm:vm-10000-disk-{number}" for number in range(1, 5))
SLOTS = ("scsi1", "scsi2", "scsi7")
volumes, slots = st.sampled_from(VOLUMES), st.sampled_from(SLOTS)

drives = st.dictionaries(
    slots,
    st.tuples(volumes, st.sampled_from(("", ",serial=data", ",serial=logs"))).map(
        lambda drive: f"{drive[0]}{drive[1]},size=5G"
    ),
    max_size=3,
)
unused = st.dictionaries(st.sampled_from(("unused0", "unused1")), volumes, max_size=2)
configs = st.builds(lambda attached, hanging: CONFIG | attached | hanging, drives, unused)
filesystems = st.lists(
    st.builds(
        lambda unit, serial: Filesystem(
            mountpoint=f"/{unit}",
            device="sdx",
            type="ext4",
            disks=(GuestDisk(serial=serial, bus="scsi", target=0, unit=unit),),
        ),
        st.sampled_from((0, 1, 2, 7)),
        st.sampled_from((None, "0QEMU_QEMU_HARDDISK_data", "0QEMU_QEMU_HARDDISK_drive-scsi2")),
    ),
    max_size=3,
).map(tuple)
ROOMS = {"ceph": Room(content=frozenset({"images"}), free=9 << 30)}
facts = st.builds(
    DiskFacts,
    current=st.none() | configs,
    stopped=st.booleans(),
    filesystems=st.none() | filesystems,
    snapshots=st.none() | st.dictionaries(st.just("before"), configs, max_size=1),
    storages=st.none() | st.just(ROOMS),
)


@st.composite
def comparisons(draw) -> tuple[Wanted, dict[str, str]]:
    listed = draw(st.lists(st.sampled_from(NAMES), unique=True))
    known = draw(st.lists(st.sampled_from(NAMES), unique=True))
    kept = [name for name in NAMES if name not in known and draw(st.booleans())]
    status: dict[str, Any] = {
        "disks": [
            {
                "name": name,
                "slot": draw(slots),
                "volume": draw(volumes),
                "size": "5Gi",
                "onRemove": draw(st.sampled_from(("Detach", "Delete"))),
            }
            for name in known
        ],
        "detachedDisks": [{"name": name, "volume": draw(volumes)} for name in kept],
    }
    storage = st.sampled_from(({}, {"storage": "ceph"}))
    spec: dict[str, Any] = {"disks": [{"name": name, "size": "5Gi"} | draw(storage) for name in listed]}
    vm = a_vm(status=made(started=draw(st.booleans()), **status), **spec)
    return wanted(vm, seen=draw(facts)), draw(configs)


always = settings(deadline=None, max_examples=200)


@given(comparisons())
@always
def test_no_disk_of_which_there_is_a_record_is_ever_made_anew(drawn):
    compared, config = drawn
    status = compared.vm.status
    known = {disk.name for disk in status.disks} | {disk.name for disk in status.detached_disks}
    for put in diff(compared, config).puts:
        if put.storage is not None and put.key.startswith("scsi"):
            serial = disks.Drive.parse(put.value or "").options["serial"]
            assert serial not in known


@given(comparisons())
@always
def test_nothing_is_ever_written_over_another_disk(drawn):
    compared, config = drawn
    running = compared.seen.current
    for put in diff(compared, config).puts:
        if disks.Drive.parse(put.value or "").is_cdrom or not put.key.startswith("scsi"):
            continue
        new = disks.Drive.parse(put.value or "").volume
        for there in (config, running if running is not None and compared.started else {}):
            if put.key in there:
                assert disks.Drive.parse(there[put.key]).volume == new


@given(comparisons())
@always
def test_a_disk_is_taken_away_only_when_it_is_ours_off_the_list_and_let_go(drawn):
    compared, config = drawn
    listed = {disk.name for disk in compared.vm.spec.disks}
    gone = {disk.volume: disk for disk in compared.vm.status.disks if disk.name not in listed}
    for removal in diff(compared, config).removes:
        volume = disks.Drive.parse(config[removal.key]).volume
        assert volume in gone
        if removal.key.startswith("unused"):
            assert gone[volume].on_remove == "Delete"
            assert compared.seen.snapshots is not None
            assert not disks.holding(compared.seen.snapshots, volume)
        else:
            number = int(removal.key.removeprefix("scsi"))
            mounted = compared.seen.filesystems
            units = {disk.unit for each in mounted or () for disk in each.disks}
            assert compared.seen.stopped or (mounted and number not in units)


@given(comparisons())
@always
def test_a_record_ends_only_with_a_disk_that_was_to_be_destroyed(drawn):
    compared, config = drawn
    before, after = compared.vm.status, disk_records(compared, config)
    names = {disk.name for disk in after.disks} | {disk.name for disk in after.detached}
    listed = {disk.name for disk in compared.vm.spec.disks}
    for kept in before.detached_disks:
        assert kept.name in names
    for disk in before.disks:
        if disk.name not in names:
            assert disk.on_remove == "Delete"
            assert disk.name not in listed
            assert disk.volume not in disks.unused(config).values()
            assert all(drive.volume != disk.volume for drive in disks.drives(config).values())
