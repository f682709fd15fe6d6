"""Name, description, flags, tags, processor, memory and firmware."""

import re
from collections.abc import Iterator, Mapping

from proxmox_operator.api import ProxmoxVM
from proxmox_operator.api.quantity import parse_quantity
from proxmox_operator.planning import disks
from proxmox_operator.planning.identity import render_description, user_text
from proxmox_operator.planning.propstring import parse_flag, parse_props, render_props
from proxmox_operator.planning.vmconfig.changes import Change, Problem, Put, Remove, Wanted, put


def general(wanted: Wanted, config: Mapping[str, str]) -> Iterator[Change]:
    vm = wanted.vm
    yield from put(config, "name", vm.spec.name or vm.metadata.name)
    current = config.get("description", "")
    text = vm.spec.description if vm.spec.description is not None else user_text(current)
    if current.rstrip() != (described := render_description(wanted.mark, text)):
        yield Put(key="description", value=described, was=current)
    if vm.spec.wanted_power != "Unmanaged":
        onboot = vm.spec.wanted_power == "Running"
        if parse_flag(config.get("onboot", "0")) != onboot:
            yield Put(key="onboot", value=str(int(onboot)), was=config.get("onboot"))
    protected = parse_flag(config.get("protection", "0"))
    if vm.spec.protection is True and not protected:
        yield Put(key="protection", value="1", was=config.get("protection"))
    if vm.spec.protection is False and protected and vm.status.protection_set:
        yield Put(key="protection", value="0", was="1")
    yield from _tags(wanted, config)


def own_tags(vm: ProxmoxVM) -> tuple[str, ...]:
    """The tags that are ours: the spec's, and the namespace, since VMs of two namespaces look alike in the GUI."""
    return tuple(sorted({tag.lower() for tag in vm.spec.tags} | {vm.metadata.namespace}))


def _tags(wanted: Wanted, config: Mapping[str, str]) -> Iterator[Change]:
    """Ours are added and, once unlisted, removed; tags of other people stay, spelled as they spelled them."""
    current = [tag for tag in re.split(r"[;,\s]+", config.get("tags", "")) if tag]
    listed = set(own_tags(wanted.vm))
    dropped = {tag.lower() for tag in wanted.vm.status.tags} - listed
    kept = [tag for tag in current if tag.lower() not in dropped]
    result = [*kept, *sorted(listed - {tag.lower() for tag in kept})]
    if result != current:
        was = config.get("tags")
        yield (
            Put(key="tags", value=";".join(result), was=was) if result else Remove(key="tags", was=was or "")
        )


def hardware(wanted: Wanted, config: Mapping[str, str]) -> Iterator[Change]:
    spec = wanted.vm.spec
    if spec.cpu is not None:
        for key, number in (("cores", spec.cpu.cores), ("sockets", spec.cpu.sockets)):
            if number is not None and config.get(key, "1") != str(number):
                yield Put(key=key, value=str(number), was=config.get(key))
        props = parse_props(config.get("cpu", ""), "cputype")
        if spec.cpu.type is not None and props.get("cputype") != spec.cpu.type:
            value = render_props({**props, "cputype": spec.cpu.type}, "cputype")
            yield Put(key="cpu", value=value, was=config.get("cpu"))
    if spec.memory is not None:
        size, minimum = _mib(spec.memory.size), spec.memory.minimum
        if parse_props(config.get("memory", ""), "current").get("current") != size:
            yield Put(key="memory", value=size, was=config.get("memory"))
        if minimum is not None:
            yield from put(config, "balloon", _mib(minimum))
    props = parse_props(config.get("agent", ""), "enabled")
    if spec.agent is not None and parse_flag(props.get("enabled", "0")) != spec.agent:
        value = render_props({**props, "enabled": str(int(spec.agent))}, "enabled")
        yield Put(key="agent", value=value, was=config.get("agent"))


def firmware(wanted: Wanted, config: Mapping[str, str]) -> Iterator[Change]:
    """UUID and firmware belong to the installed system: written before the first start, never after."""
    if not wanted.started:
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
    if firmware.secure_boot and efi and not parse_flag(efi.get("pre-enrolled-keys", "0")):
        message = "spec.firmware.secureBoot: the source's EFI disk holds no enrolled keys: clone a source that has them"
        yield Problem(reason="SecureBootMissing", message=message)
    if wants_efi:
        keys = int(bool(firmware.secure_boot))
        value = f"{storage}:1,efitype=4m,pre-enrolled-keys={keys}"
        yield Put(key="efidisk0", value=value, storage=storage)
    if wants_tpm:
        yield Put(key="tpmstate0", value=f"{storage}:1,version=v2.0", storage=storage)


def _mib(quantity: str) -> str:
    return str(parse_quantity(quantity) >> 20)
