"""UUID, UEFI, Secure Boot and TPM: they belong to the installed system."""

from collections.abc import Iterator, Mapping

from proxmox_operator.planning import disks
from proxmox_operator.planning.canonical import meaning
from proxmox_operator.planning.propstring import parse_props, render_props
from proxmox_operator.planning.vmconfig.changes import Change, Problem, Put, Wanted


def firmware(wanted: Wanted, config: Mapping[str, str]) -> Iterator[Change]:
    """UUID and firmware belong to the installed system: written before the first start, never after."""
    if not wanted.started and wanted.mark is not None:
        props = parse_props(config.get("smbios1", ""), "uuid")
        if props.get("uuid", "").lower() != wanted.mark.uuid.lower():
            value = render_props({**props, "uuid": wanted.mark.uuid}, None)
            yield Put(key="smbios1", value=value, was=config.get("smbios1"))
    firmware = wanted.vm.spec.firmware
    if firmware is None:
        return
    changes = list(_firmware_changes(wanted, config))
    if wanted.started and changes:
        keys = ", ".join(change.key for change in changes if isinstance(change, Put)) or "a disk is missing"
        message = (
            f"spec.firmware differs from the VM's ({keys}), which was started already: restore the old value"
        )
        yield Problem(reason="FirmwareImmutable", message=message)
    else:
        yield from changes


def _firmware_changes(wanted: Wanted, config: Mapping[str, str]) -> Iterator[Put | Problem]:
    firmware = wanted.vm.spec.firmware
    assert firmware is not None  # noqa: S101 - narrowed by the caller
    storage = disks.boot_storage(config) or wanted.storage
    if firmware.uefi is not None and (config.get("bios", "seabios") == "ovmf") != firmware.uefi:
        yield Put(key="bios", value="ovmf" if firmware.uefi else "seabios", was=config.get("bios"))
    wants_efi, wants_tpm = (
        bool(asked) and key not in config
        for asked, key in ((firmware.uefi, "efidisk0"), (firmware.tpm, "tpmstate0"))
    )
    if storage is None and (wants_efi or wants_tpm):
        message = (
            "spec.firmware: there is no storage for its disks: set defaults.storage on the ProxmoxCluster"
        )
        yield Problem(reason="StorageNotChosen", message=message)
        return
    efi = parse_props(config.get("efidisk0", ""), "file")
    if firmware.secure_boot and efi and not meaning(efi.get("pre-enrolled-keys"), default=False):
        message = "spec.firmware.secureBoot: the source's EFI disk holds no enrolled keys: clone a source that has them"
        yield Problem(reason="SecureBootMissing", message=message)
    if wants_efi:
        keys = int(bool(firmware.secure_boot))
        value = f"{storage}:1,efitype=4m,pre-enrolled-keys={keys}"
        yield Put(key="efidisk0", value=value, storage=storage)
    if wants_tpm:
        yield Put(key="tpmstate0", value=f"{storage}:1,version=v2.0", storage=storage)
