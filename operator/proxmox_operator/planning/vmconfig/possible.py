"""What the config as a whole must fulfil, seen after all changes: Proxmox would refuse it, or the VM would not start.

Looked at only where the spec asked for a part of it; what others have configured among themselves is theirs.
"""

from collections.abc import Iterator, Mapping

from proxmox_operator.api import VMSpec
from proxmox_operator.planning.canonical import meaning, whole
from proxmox_operator.planning.configured import memory_mib, processors
from proxmox_operator.planning.propstring import parse_props
from proxmox_operator.planning.vmconfig.changes import Problem
from proxmox_operator.planning.vmconfig.effects import chipset, hotplug_features

LEAST_PLUGGED = 1024
"""MiB that a VM must have where memory can be plugged in."""


def impossible(spec: VMSpec, after: Mapping[str, str]) -> Iterator[Problem]:
    """Problems of the config as it would be ``after`` all changes."""
    yield from _processor(spec, after)
    yield from _memory(spec, after)
    yield from _devices(spec, after)


def _processor(spec: VMSpec, after: Mapping[str, str]) -> Iterator[Problem]:
    plugged, possible = whole(after.get("vcpus"), 0), processors(after)
    if spec.cpu is not None and plugged > possible:
        yield Problem(
            reason="TooManyVCPUs",
            message=(
                f"spec.cpu: {plugged} vcpus are more than the {possible} processors that cores and sockets make: set "
                f"spec.cpu.vcpus to at most {possible}, or spec.cpu.cores higher"
            ),
        )
    numa = meaning(after.get("numa"), default=False)
    if spec.hotplug is not None and "memory" in hotplug_features(after) and not numa:
        yield Problem(
            reason="MemoryHotplugNeedsNUMA",
            message="spec.hotplug: Memory needs NUMA: set spec.cpu.numa to true, or remove Memory",
        )


def _memory(spec: VMSpec, after: Mapping[str, str]) -> Iterator[Problem]:
    size, least = memory_mib(after), whole(after.get("balloon"), 0)
    if spec.memory is not None and least > size:
        yield Problem(
            reason="MinimumAboveMemory",
            message=(
                f"spec.memory.size: {size}Mi is less than the {least}Mi to which the VM may be ballooned: set "
                "spec.memory.minimum, or size higher"
            ),
        )

    if spec.memory is not None and "memory" in hotplug_features(after) and size < LEAST_PLUGGED:
        yield Problem(
            reason="MemoryTooSmall",
            message=(
                f"spec.memory.size: {size}Mi is less than the {LEAST_PLUGGED}Mi that hotplug of memory needs: set size "
                "higher, or remove Memory from the VM's hotplug"
            ),
        )


def _devices(spec: VMSpec, after: Mapping[str, str]) -> Iterator[Problem]:
    missing = [device for device in spec.boot_order if device not in after]
    if missing:
        yield Problem(
            reason="BootDeviceMissing",
            message=(
                f"spec.bootOrder: the VM has no {', '.join(missing)}: remove it from the list, or add the device"
            ),
        )
    express = [device.name for device in spec.pci_devices if device.pcie]
    if express and chipset(after.get("machine", "pc")) != "q35":
        yield Problem(
            reason="PCIExpressNeedsQ35",
            message=(
                f"spec.pciDevices[{express[0]}].pcie: the VM's machine is {after.get('machine', 'pc')}, which has no "
                "PCI Express: set pcie to false, or spec.machine to q35 before the first start"
            ),
        )
    shown = parse_props(after.get("vga", ""), "type").get("type", "std")
    if spec.serial_console is False and shown.startswith("serial"):
        yield Problem(
            reason="SerialConsoleNeeded",
            message=(
                f"spec.serialConsole: the VM's display is {shown}: set spec.display to another type as well, or "
                "serialConsole to true"
            ),
        )
