"""The drive of a VM's seed: in before the first start, in place of Proxmox's cloud-init drive, and empty after it.

Two drives with the label ``cidata`` would leave it to chance which one the guest reads.
"""

from collections.abc import Iterator, Mapping

from proxmox_operator.planning import disks
from proxmox_operator.planning.seed import has_user_data, is_seed, is_spent
from proxmox_operator.planning.vmconfig.changes import Change, Problem, Put, Remove, Wanted

_SLOTS = ("ide2", "ide0", *(f"sata{number}" for number in range(6)))
"""Where a CD-ROM can be on every chipset, the usual place first."""


def seed_drive(wanted: Wanted, config: Mapping[str, str]) -> Iterator[Change]:
    vm = wanted.vm
    record = vm.status.seed
    if record is None:
        return
    drives = disks.all_drives(config)
    seeded = [slot for slot, drive in drives.items() if is_seed(drive.volume, vm.status.vmid or 0)]
    if is_spent(vm):
        for spent in seeded:
            what = "eject the user data, which the guest has read"
            yield Put(key=spent, value="none,media=cdrom", was=config[spent], event="SeedEjected", what=what)
        return
    if wanted.started or record.phase != "Uploaded" or not has_user_data(vm):
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
