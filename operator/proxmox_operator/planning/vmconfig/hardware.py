"""Processor, memory, machine, and what hangs on it: display, serial console, agent, hotplug, boot order."""

from collections.abc import Iterator, Mapping

from proxmox_operator.api.quantity import parse_quantity
from proxmox_operator.planning.canonical import Value, amended, spelled
from proxmox_operator.planning.configured import processors
from proxmox_operator.planning.propstring import parse_props, render_props
from proxmox_operator.planning.vmconfig.changes import Change, Problem, Put, Remove, Wanted, put
from proxmox_operator.planning.vmconfig.effects import chipset, hotplug_features

DEFAULT_MEMORY = "512"

HOTPLUG = {
    "Network": "network",
    "Disk": "disk",
    "USB": "usb",
    "Memory": "memory",
    "CPU": "cpu",
    "CloudInit": "cloudinit",
}

DISPLAYS = {
    "Standard": "std",
    "VirtIO": "virtio",
    "VirtIOGL": "virtio-gl",
    "QXL": "qxl",
    "VMware": "vmware",
    "Cirrus": "cirrus",
    "Serial": "serial0",
    "None": "none",
}


def processor(wanted: Wanted, config: Mapping[str, str]) -> Iterator[Change]:
    cpu = wanted.vm.spec.cpu
    if cpu is None:
        return
    asked: tuple[tuple[str, Value, Value], ...] = (
        ("cores", cpu.cores, 1),
        ("sockets", cpu.sockets, 1),
        ("cpulimit", None if cpu.limit is None else float(cpu.limit), 0),
        ("cpuunits", cpu.units, 100),
        ("numa", cpu.numa, False),
    )
    for key, value, default in asked:
        if value is not None:
            yield from put(config, key, value, default)
    if cpu.type is not None:
        yield from _props(config, "cpu", "cputype", {"cputype": cpu.type}, {"cputype": ""})
    if cpu.vcpus is not None:
        asked_for = {"cores": cpu.cores, "sockets": cpu.sockets}
        after = {**config, **{key: str(value) for key, value in asked_for.items() if value is not None}}
        yield from put(config, "vcpus", cpu.vcpus, default=processors(after))


def memory(wanted: Wanted, config: Mapping[str, str]) -> Iterator[Change]:
    memory = wanted.vm.spec.memory
    if memory is None:
        return
    size = _mib(memory.size)
    enough = {size, str(whole_dimms(int(size)))} if "memory" in hotplug_features(config) else {size}
    if parse_props(config.get("memory", DEFAULT_MEMORY), "current").get("current") not in enough:
        yield Put(key="memory", value=size, was=config.get("memory"))
    balloon = config.get("balloon")
    if memory.minimum is not None:
        yield from put(config, "balloon", int(_mib(memory.minimum)), default=int(size))
    elif memory.ballooning is False and balloon != "0":
        yield Put(key="balloon", value="0", was=balloon)
    elif memory.ballooning is True and balloon == "0":
        yield Remove(key="balloon", was="0")  # the device without a minimum, as by default
    if memory.shares is not None:
        yield from put(config, "shares", memory.shares, default=1000)


def whole_dimms(wanted: int) -> int:
    """The MiB that Proxmox makes of a wish where memory is plugged in: 1024 and 32 DIMMs of each size, from 512 MiB
    doubling. Writing the wish again would not bring it nearer.
    """
    size, dimm = 1024, 512
    while True:
        for _ in range(32):
            if size >= wanted:
                return size
            size += dimm
        dimm *= 2


def machine(wanted: Wanted, config: Mapping[str, str]) -> Iterator[Change]:
    """The machine type; one without a version leaves the version to the VM, which Windows guests want pinned."""
    asked = wanted.vm.spec.machine
    props = parse_props(config.get("machine", ""), "type")
    current = props.get("type", "pc")
    if asked is None or asked == current:
        return
    if chipset(asked) == chipset(current):
        if asked in ("pc", "q35"):
            return
    elif wanted.started:
        message = (
            f"spec.machine: the VM was started as {current}, and the system installed in it relies on that chipset: "
            f"set {'q35' if chipset(current) == 'q35' else 'pc'} or a version of it, or remove spec.machine"
        )
        yield Problem(reason="MachineImmutable", message=message)
        return
    yield Put(key="machine", value=render_props({**props, "type": asked}, "type"), was=config.get("machine"))


def peripherals(wanted: Wanted, config: Mapping[str, str]) -> Iterator[Change]:
    spec = wanted.vm.spec
    if spec.agent is not None:
        yield from _props(config, "agent", "enabled", {"enabled": spec.agent}, {"enabled": False})
    if spec.display is not None:
        parts = {"type": DISPLAYS[spec.display.type], "memory": spec.display.memory}
        yield from _props(config, "vga", "type", parts, {"type": "std", "memory": 0})
    if spec.serial_console is not None:
        yield from _serial_console(config, spec.serial_console)
    if spec.hotplug is not None:
        features = [HOTPLUG[each] for each in HOTPLUG if each in spec.hotplug]
        if set(features) != hotplug_features(config):
            yield Put(key="hotplug", value=",".join(features) or "0", was=config.get("hotplug"))
    order = ";".join(spec.boot_order)
    if order and parse_props(config.get("boot", ""), "legacy").get("order") != order:
        yield Put(key="boot", value=f"order={order}", was=config.get("boot"))


def _serial_console(config: Mapping[str, str], wanted: bool) -> Iterator[Change]:
    """``serial0`` as a socket; a device of the host there is no console, and only root@pam itself may change it."""
    there = config.get("serial0")
    if wanted and there is None:
        yield Put(key="serial0", value="socket")
    elif wanted and there != "socket":
        message = (
            f"spec.serialConsole: serial0 is the host's {there}, which only root@pam can change: remove it there, or "
            "set spec.serialConsole to false"
        )
        yield Problem(reason="SerialPortTaken", message=message)
    elif not wanted and there == "socket":
        yield Remove(key="serial0", was=there)


def _props(
    config: Mapping[str, str],
    key: str,
    bare: str,
    parts: Mapping[str, Value],
    defaults: Mapping[str, Value],
) -> Iterator[Put]:
    """Parts of a property string whose other parts stay; its bare part is always written, as some need it."""
    current = parse_props(config.get(key, ""), bare)
    props = amended(current, parts, defaults)
    if props != current:
        whole = {bare: spelled(defaults[bare]), **props}
        yield Put(key=key, value=render_props(whole, bare), was=config.get(key))


def _mib(quantity: str) -> str:
    return str(parse_quantity(quantity) >> 20)
