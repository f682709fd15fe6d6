"""The drive of a VM's seed: in before the first start, in place of Proxmox's cloud-init drive, and empty after it.

Two drives with the label ``cidata`` would leave it to chance which one the guest reads.
"""

from collections.abc import Iterator, Mapping

from proxmox_operator.planning import disks
from proxmox_operator.planning.seed import is_seed, is_spent
from proxmox_operator.planning.vmconfig.changes import Change, Problem, Put, Remove, Wanted

_SLOTS = ("ide2", "ide0", *(f"sata{number}" for number in range(6)))
"""Where a CD-ROM can be on every chipset, the usual place first."""


def seed_drive(wanted: Wanted, config: Mapping[str, str]) -> Iterator[Change]:
    vm, record = wanted.vm, wanted.vm.status.seed
    drives = disks.all_drives(config)
    # A clone inherits the seed of its source, which is not for it.
    whose = vm.status.vmid or 0 if wanted.started else None
    seeded = [slot for slot, drive in drives.items() if is_seed(drive.volume, whose)]
    if is_spent(vm):
        read = "eject the user data, which the guest has read"
        what = read if wanted.started else "eject user data that the guest is not to read"
        for spent in seeded if record is not None or not wanted.started else ():
            yield Put(key=spent, value="none,media=cdrom", was=config[spent], event="SeedEjected", what=what)
        return
    if wanted.started or record is None or record.phase != "Uploaded":
        return
    native = [slot for slot, drive in drives.items() if disks.is_cloud_init(drive)]
    free = (name for name in _SLOTS if name not in config)
    if (slot := next((name for name in (*seeded, *native, *free)), None)) is None:
        message = (
            f"spec.cloudInit: no slot is free for the user data's CD-ROM: free one of {', '.join(_SLOTS)}"
        )
        yield Problem(reason="NoCloudInitDrive", message=message)
        return
    if slot not in seeded or drives[slot].volume != record.volume:
        value, what = f"{record.volume},media=cdrom", "attach the user data for the first boot"
        yield Put(key=slot, value=value, was=config.get(slot), what=what)
    for other in {*seeded, *native} - {slot}:
        what = "remove the cloud-init drive, in place of which the guest gets user data"
        yield Remove(key=other, was=config[other], what=what)
