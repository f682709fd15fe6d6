"""PCI and USB devices of the node, by resource mapping; a listed slot is owned whole, as far as the spec has words."""

from collections.abc import Iterator, Mapping

from proxmox_operator.planning.canonical import Value, amended
from proxmox_operator.planning.propstring import parse_props, render_props
from proxmox_operator.planning.vmconfig.changes import Change, Problem, Put, Wanted

_PCI_DEFAULTS: dict[str, Value] = {"pcie": False, "x-vga": False, "rombar": True}
_USB_DEFAULTS: dict[str, Value] = {"usb3": False}


def pci_devices(wanted: Wanted, config: Mapping[str, str]) -> Iterator[Change]:
    for device in wanted.vm.spec.pci_devices:
        parts: dict[str, Value] = {
            "mapping": device.mapping,
            "pcie": device.pcie,
            "x-vga": device.primary_gpu,
            "rombar": device.rom_bar,
        }
        yield from _mapped(f"spec.pciDevices[{device.name}]", device.name, config, parts, _PCI_DEFAULTS)


def usb_devices(wanted: Wanted, config: Mapping[str, str]) -> Iterator[Change]:
    for device in wanted.vm.spec.usb_devices:
        parts: dict[str, Value] = {"mapping": device.mapping, "usb3": device.usb3}
        yield from _mapped(f"spec.usbDevices[{device.name}]", device.name, config, parts, _USB_DEFAULTS)


def _mapped(
    field: str,
    slot: str,
    config: Mapping[str, str],
    parts: Mapping[str, Value],
    defaults: Mapping[str, Value],
) -> Iterator[Change]:
    current = parse_props(config.get(slot, ""), "host")
    props = amended(current, parts, defaults)
    if props == current:
        return
    if current.get("host", "spice") != "spice" or "romfile" in current:
        message = (
            f"{field}: {slot} is {config[slot]}, which only root@pam can change: choose another name, or remove that "
            "device as root"
        )
        yield Problem(reason="DeviceSlotTaken", message=message)
        return
    props.pop("host", None)
    yield Put(key=slot, value=render_props(props, None), was=config.get(slot))
