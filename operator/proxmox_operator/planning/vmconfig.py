"""What a VM's config should say, and what must be written to get there.

Pure: from the spec, the status and the config as Proxmox returned it, to a :class:`ConfigDiff`. Values are
compared parsed and canonical, because Proxmox hands property strings back re-ordered and completed. Only keys
that the spec lists are compared; an unset block is unmanaged. Source of the keys: ``POST /nodes/{node}/qemu/{vmid}/config``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from proxmox_operator.api import Disk, DiskStatus, Network, NetworkStatus, ProxmoxVM
from proxmox_operator.api.quantity import format_gib, parse_quantity
from proxmox_operator.planning import disks
from proxmox_operator.planning.identity import Mark, render_description, user_text
from proxmox_operator.planning.propstring import parse_flag, parse_props, render_props

NIC_MODELS = {"VirtIO": "virtio", "E1000": "e1000", "E1000E": "e1000e", "RTL8139": "rtl8139", "VMXNET3": "vmxnet3"}
PASSWORD_KEY = "cipassword"


@dataclass(frozen=True, kw_only=True)
class Put:
    """Write ``key``; ``was`` is the old value, for the sentence a person reads.

    ``value`` is ``None`` for a secret, which is filled in only when the call is made.
    """

    key: str
    value: str | None
    was: str | None = None
    storage: str | None = None

    def sentence(self) -> str:
        if self.value is None:
            return f"{self.key}: set from its Secret"
        return f"{self.key}: {_short(self.was)} -> {_short(self.value)}"


@dataclass(frozen=True, kw_only=True)
class Remove:
    """Delete ``key`` from the config."""

    key: str
    was: str

    def sentence(self) -> str:
        return f"{self.key}: {_short(self.was)} -> unset"


@dataclass(frozen=True, kw_only=True)
class Grow:
    """Grow the disk in ``slot`` to ``size`` bytes (absolute, so that a repeated call changes nothing)."""

    slot: str
    size: int
    was: int

    def sentence(self) -> str:
        return f"{self.slot}: grow {format_gib(self.was)} -> {format_gib(self.size)}"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that no write can bring about; the whole diff waits until a person decides."""

    reason: str
    message: str


Change = Put | Remove | Grow | Problem


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Everything beside the config that the diff depends on.

    ``started`` is whether the VM was ever started: firmware and UUID are only set before.
    """

    vm: ProxmoxVM
    mark: Mark
    started: bool
    storage: str | None
    bridge: str | None


@dataclass(frozen=True, kw_only=True)
class ConfigDiff:
    """The writes that bring a config to what is wanted; empty when there is nothing to do."""

    puts: tuple[Put, ...] = ()
    removes: tuple[Remove, ...] = ()
    grows: tuple[Grow, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def writes(self) -> bool:
        """Whether a config write is needed (growing is a call of its own)."""
        return bool(self.puts or self.removes)

    def sentences(self) -> tuple[str, ...]:
        changes: tuple[Put | Remove | Grow, ...] = (*self.puts, *self.removes, *self.grows)
        return tuple(change.sentence() for change in changes)

    def only_mark(self) -> bool:
        """Whether the mark, lost in an edit, is all there is to write."""
        return not self.grows and not self.removes and [put.key for put in self.puts] == ["description"]


def diff(wanted: Wanted, config: Mapping[str, str]) -> ConfigDiff:
    """Compare the config (values as Proxmox returns them, pending ones merged) with what is wanted."""
    changes = [
        change
        for area in (_general, _hardware, _firmware, _boot_disk, _disks, _networks, _cloud_init)
        for change in area(wanted, config)
    ]
    return ConfigDiff(
        puts=tuple(change for change in changes if isinstance(change, Put)),
        removes=tuple(change for change in changes if isinstance(change, Remove)),
        grows=tuple(change for change in changes if isinstance(change, Grow)),
        problems=tuple(change for change in changes if isinstance(change, Problem)),
    )


def recorded_disks(wanted: Wanted, config: Mapping[str, str]) -> tuple[DiskStatus, ...]:
    """The listed disks as they are attached now; a disk that is missing keeps its last record."""
    known = {disk.name: disk for disk in wanted.vm.status.disks}
    for disk in wanted.vm.spec.disks:
        slot = disks.slot_of(disk.name, config, known.get(disk.name))
        if slot is not None:
            drive = disks.Drive.parse(config[slot])
            known[disk.name] = DiskStatus(name=disk.name, slot=slot, volume=drive.volume, size=format_gib(drive.size))
    return tuple(known.values())


def recorded_networks(wanted: Wanted, config: Mapping[str, str]) -> tuple[NetworkStatus, ...]:
    """The listed networks with the MAC addresses they have; these are sent again with every change."""
    names = [network.name for network in wanted.vm.spec.networks]
    return tuple(
        NetworkStatus(name=name, mac=mac) for name in names if (mac := _mac(parse_props(config.get(name, ""), "model")))
    )


def _put(config: Mapping[str, str], key: str, value: str) -> Iterator[Put]:
    if config.get(key) != value:
        yield Put(key=key, value=value, was=config.get(key))


def _general(wanted: Wanted, config: Mapping[str, str]) -> Iterator[Change]:
    vm = wanted.vm
    yield from _put(config, "name", vm.spec.name or vm.metadata.name)
    current = config.get("description", "")
    text = vm.spec.description if vm.spec.description is not None else user_text(current)
    if current.rstrip() != (described := render_description(wanted.mark, text)):
        yield Put(key="description", value=described, was=current)
    if vm.spec.power != "Unmanaged":
        onboot = vm.spec.power == "Running"
        if parse_flag(config.get("onboot", "0")) != onboot:
            yield Put(key="onboot", value=str(int(onboot)), was=config.get("onboot"))
    protected = parse_flag(config.get("protection", "0"))
    if vm.spec.protection is True and not protected:
        yield Put(key="protection", value="1", was=config.get("protection"))
    if vm.spec.protection is False and protected and vm.status.protection_set:
        yield Put(key="protection", value="0", was="1")
    yield from _tags(wanted, config)


def _tags(wanted: Wanted, config: Mapping[str, str]) -> Iterator[Change]:
    """Ours are added and, once unlisted, removed; tags of other people stay."""
    current = {tag for tag in config.get("tags", "").lower().replace(",", ";").replace(" ", ";").split(";") if tag}
    listed = {tag.lower() for tag in wanted.vm.spec.tags}
    dropped = {tag.lower() for tag in wanted.vm.status.tags} - listed
    if (result := (current | listed) - dropped) != current:
        was = config.get("tags")
        yield Put(key="tags", value=";".join(sorted(result)), was=was) if result else Remove(key="tags", was=was or "")


def _hardware(wanted: Wanted, config: Mapping[str, str]) -> Iterator[Change]:
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
            yield from _put(config, "balloon", _mib(minimum))
    props = parse_props(config.get("agent", ""), "enabled")
    if spec.agent is not None and parse_flag(props.get("enabled", "0")) != spec.agent:
        value = render_props({**props, "enabled": str(int(spec.agent))}, "enabled")
        yield Put(key="agent", value=value, was=config.get("agent"))


def _firmware(wanted: Wanted, config: Mapping[str, str]) -> Iterator[Change]:
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
        keys = ", ".join(put.key for put in changes)
        message = f"spec.firmware differs from the VM's ({keys}), which was started already: restore the old value"
        yield Problem(reason="FirmwareImmutable", message=message)
    else:
        yield from changes


def _firmware_changes(wanted: Wanted, config: Mapping[str, str]) -> Iterator[Put]:
    firmware = wanted.vm.spec.firmware
    assert firmware is not None  # noqa: S101 - narrowed by the caller
    storage = disks.boot_storage(config) or wanted.storage
    if firmware.uefi is not None and (config.get("bios", "seabios") == "ovmf") != firmware.uefi:
        yield Put(key="bios", value="ovmf" if firmware.uefi else "seabios", was=config.get("bios"))
    if firmware.uefi and "efidisk0" not in config:
        keys = int(bool(firmware.secure_boot))
        value = f"{storage}:1,efitype=4m,pre-enrolled-keys={keys}"
        yield Put(key="efidisk0", value=value, storage=storage)
    if firmware.tpm and "tpmstate0" not in config:
        yield Put(key="tpmstate0", value=f"{storage}:1,version=v2.0", storage=storage)


def _boot_disk(wanted: Wanted, config: Mapping[str, str]) -> Iterator[Change]:
    boot = wanted.vm.spec.boot_disk
    if boot is None or boot.size is None:
        return
    slot = disks.boot_slot(config)
    if slot is None:
        message = "spec.bootDisk: the source has no disk to boot from; clone another template"
        yield Problem(reason="NoBootDisk", message=message)
        return
    yield from _size("spec.bootDisk.size", slot, parse_quantity(boot.size), disks.Drive.parse(config[slot]))


def _size(field: str, slot: str, wanted: int, drive: disks.Drive) -> Iterator[Change]:
    if drive.size < wanted:
        yield Grow(slot=slot, size=wanted, was=drive.size)
    elif drive.size > wanted:
        has = format_gib(drive.size)
        message = f"{field}: {format_gib(wanted)} is smaller than the disk, which has {has}; disks only grow: set {has}"
        yield Problem(reason="DiskShrinkRefused", message=message)


def _disks(wanted: Wanted, config: Mapping[str, str]) -> Iterator[Change]:
    known = {disk.name: disk for disk in wanted.vm.status.disks}
    taken = set(config) | {disk.slot for disk in known.values()}
    for disk in wanted.vm.spec.disks:
        slot = disks.slot_of(disk.name, config, known.get(disk.name))
        if slot is not None:
            yield from _existing_disk(disk, slot, config[slot])
        elif disk.name in known:
            message = (
                f"spec.disks[{disk.name}]: its volume {known[disk.name].volume} is no longer attached; attach it again "
                f"as {known[disk.name].slot} with serial={disk.name} (a blank disk is never put in its place)"
            )
            yield Problem(reason="DiskMissing", message=message)
        elif (storage := disk.storage or wanted.storage) is None:
            message = f"spec.disks[{disk.name}].storage: name a storage, or set defaults.storage on the ProxmoxCluster"
            yield Problem(reason="StorageNotChosen", message=message)
        elif (free := disks.free_slot(taken)) is None:
            yield Problem(reason="NoFreeSlot", message=f"spec.disks[{disk.name}]: all 31 SCSI slots are in use")
        else:
            taken.add(free)
            gib = parse_quantity(disk.size) >> 30
            value = render_props({"file": f"{storage}:{gib}", "serial": disk.name, **_options(disk)}, "file")
            yield Put(key=free, value=value, storage=storage)


def _existing_disk(disk: Disk, slot: str, value: str) -> Iterator[Change]:
    drive = disks.Drive.parse(value)
    options = {key: text for key, text in drive.options.items() if key not in disks.OWNED_OPTIONS}
    wanted = {**options, **_options(disk)}
    if disks.canonical(wanted) != disks.canonical(drive.options):
        yield Put(key=slot, value=render_props({"file": drive.volume, **wanted}, "file"), was=value)
    if disk.storage is not None and drive.storage != disk.storage:
        message = (
            f"spec.disks[{disk.name}].storage: the disk is on {drive.storage}; moving it to {disk.storage} is not done "
            f"here: move it in Proxmox, or set {drive.storage}"
        )
        yield Problem(reason="DiskMoveRefused", message=message)
    yield from _size(f"spec.disks[{disk.name}].size", slot, parse_quantity(disk.size), drive)


def _options(disk: Disk) -> dict[str, str]:
    """The drive options of a listed disk that differ from Proxmox's defaults."""
    options = {
        "cache": disks.CACHE_MODES[disk.cache] if disk.cache else None,
        "discard": "on" if disk.discard else None,
        "ssd": "1" if disk.ssd else None,
        "iothread": "1" if disk.iothread else None,
        "backup": "0" if disk.backup is False else None,
    }
    return {key: value for key, value in options.items() if value is not None}


def _networks(wanted: Wanted, config: Mapping[str, str]) -> Iterator[Change]:
    recorded = {network.name: network.mac for network in wanted.vm.status.networks}
    for network in wanted.vm.spec.networks:
        if (bridge := network.bridge or wanted.bridge) is None:
            message = f"spec.networks[{network.name}].bridge: name one, or set defaults.bridge on the ProxmoxCluster"
            yield Problem(reason="BridgeNotChosen", message=message)
            continue
        current = parse_props(config.get(network.name, ""), "model")
        mac = network.mac or _mac(current) or recorded.get(network.name)
        props = _nic(network, bridge, mac)
        if disks.canonical(_as_model(current)) != disks.canonical(_as_model(props)):
            yield Put(key=network.name, value=render_props(props, "model"), was=config.get(network.name))


def _nic(network: Network, bridge: str, mac: str | None) -> dict[str, str]:
    model = NIC_MODELS[network.model]
    props: dict[str, str | None] = {
        "model": None if mac else model,
        model: mac.upper() if mac else None,
        "bridge": bridge,
        "tag": str(network.vlan) if network.vlan else None,
        "mtu": str(network.mtu) if network.mtu else None,
        "queues": str(network.queues) if network.queues else None,
        "firewall": "1" if network.firewall else None,
        "link_down": "1" if network.connected is False else None,
    }
    return {key: value for key, value in props.items() if value is not None}


def _as_model(props: Mapping[str, str]) -> dict[str, str]:
    """``virtio=MAC`` and ``model=virtio,macaddr=MAC`` are the same NIC."""
    result = {key: value for key, value in props.items() if key not in NIC_MODELS.values()}
    for model in NIC_MODELS.values():
        if model in props:
            result |= {"model": model, "macaddr": props[model].upper()}
    return result


def _mac(props: Mapping[str, str]) -> str | None:
    return _as_model(props).get("macaddr")


def _cloud_init(wanted: Wanted, config: Mapping[str, str]) -> Iterator[Change]:
    """Native cloud-init (``ciuser`` and friends).

    A password reads back masked, so it is written once for each reference to a Secret, not compared.
    """
    spec = wanted.vm.spec
    for network in spec.networks:
        if network.ipv4 is None and network.ipv6 is None:
            continue
        key, props = f"ipconfig{network.name.removeprefix('net')}", _ipconfig(network)
        if parse_props(config.get(key, ""), None) != props:
            yield Put(key=key, value=render_props(props, None), was=config.get(key))
    init = spec.cloud_init
    if init is None:
        return
    yield from _cloud_init_drive(wanted, config)
    if init.user is not None:
        yield from _put(config, "ciuser", init.user)
    if init.ssh_keys and _keys(config.get("sshkeys", "")) != [key.strip() for key in init.ssh_keys]:
        yield Put(key="sshkeys", value="\n".join(init.ssh_keys), was=config.get("sshkeys"))
    if init.dns is not None and init.dns.servers:
        yield from _put(config, "nameserver", " ".join(init.dns.servers))
    if init.dns is not None and init.dns.search_domains:
        yield from _put(config, "searchdomain", " ".join(init.dns.search_domains))
    if init.upgrade_packages is not None and parse_flag(config.get("ciupgrade", "1")) != init.upgrade_packages:
        yield Put(key="ciupgrade", value=str(int(init.upgrade_packages)), was=config.get("ciupgrade"))
    if password_reference(wanted.vm) not in (None, wanted.vm.status.password_from):
        yield Put(key=PASSWORD_KEY, value=None)


def password_reference(vm: ProxmoxVM) -> str | None:
    """``secret/key`` of the cloud-init password, as recorded in status once it was written."""
    init = vm.spec.cloud_init
    if init is None or init.password_secret_ref is None:
        return None
    return f"{init.password_secret_ref.name}/{init.password_secret_ref.key}"


def _cloud_init_drive(wanted: Wanted, config: Mapping[str, str]) -> Iterator[Change]:
    if disks.has_cloud_init_drive(config):
        return
    init = wanted.vm.spec.cloud_init
    storage = (init.storage if init else None) or disks.boot_storage(config) or wanted.storage
    slot = next((slot for slot in ("ide2", "ide0", "ide1", "ide3") if slot not in config), None)
    if slot is None or storage is None:
        message = "spec.cloudInit: no free IDE slot or storage for its drive; free ide2 or set spec.cloudInit.storage"
        yield Problem(reason="NoCloudInitDrive", message=message)
    else:
        yield Put(key=slot, value=f"{storage}:cloudinit", storage=storage)


def _ipconfig(network: Network) -> dict[str, str]:
    props: dict[str, str] = {}
    for version, key, gateway in ((network.ipv4, "ip", "gw"), (network.ipv6, "ip6", "gw6")):
        if version is not None:
            props[key] = version.address
            if version.gateway is not None:
                props[gateway] = version.gateway
    return props


def _keys(encoded: str) -> list[str]:
    return [line.strip() for line in unquote(encoded).splitlines() if line.strip()]


def _mib(quantity: str) -> str:
    return str(parse_quantity(quantity) >> 20)


def _short(value: str | None) -> str:
    """A value as it fits a sentence."""
    if value is None:
        return "unset"
    first = user_text(value).strip().splitlines()
    text = first[0] if first else "(mark)"
    return text if len(text) <= 60 else f"{text[:57]}..."
