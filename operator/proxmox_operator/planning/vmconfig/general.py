"""Name, description, start with the node, protection, kind of guest, and tags."""

import re
from collections.abc import Iterator, Mapping

from proxmox_operator.api import ProxmoxVM, Startup
from proxmox_operator.planning.canonical import amended, meaning
from proxmox_operator.planning.identity import render_description, user_text
from proxmox_operator.planning.propstring import parse_props, render_props
from proxmox_operator.planning.vmconfig.changes import Change, Problem, Put, Remove, Wanted, put
from proxmox_operator.planning.window import zone

OS_TYPES = {
    "Linux": "l26",
    "Windows11": "win11",
    "Windows10": "win10",
    "Windows8": "win8",
    "Windows7": "win7",
    "WindowsXP": "wxp",
    "Windows2008": "w2k8",
    "Solaris": "solaris",
    "Other": "other",
}


def general(wanted: Wanted, config: Mapping[str, str]) -> Iterator[Change]:
    vm = wanted.vm
    name = vm.spec.name or (vm.metadata.name if vm.spec.source.adopt is None else None)
    if name is not None:
        yield from put(config, "name", name)
    yield from _description(wanted, config.get("description", ""))
    yield from _startup(vm, config)
    if vm.spec.os_type is not None:
        yield from put(config, "ostype", OS_TYPES[vm.spec.os_type], "other")
    protected = meaning(config.get("protection"), default=False) is True
    if vm.spec.protection is True and not protected:
        yield Put(key="protection", value="1", was=config.get("protection"))
    if vm.spec.protection is False and protected and vm.status.protection_set:
        yield Put(key="protection", value="0", was="1")
    yield from _tags(wanted, config)


def _description(wanted: Wanted, current: str) -> Iterator[Put]:
    text = wanted.vm.spec.description
    if text is None:
        text = user_text(current)
    if wanted.mark is not None:
        described = render_description(wanted.mark, text)
        if current.rstrip() != described:
            yield Put(key="description", value=described, was=current)
    elif text.rstrip() != user_text(current):
        yield Put(key="description", value=text, was=current)


def own_tags(vm: ProxmoxVM) -> tuple[str, ...]:
    """The tags that are ours: the spec's, and the namespace, since VMs of two namespaces look alike in the GUI.

    None on an adopted VM whose spec lists none.
    """
    if vm.spec.source.adopt is not None and not vm.spec.tags:
        return ()
    return tuple(sorted({tag.lower() for tag in vm.spec.tags} | {vm.metadata.namespace}))


def _startup(vm: ProxmoxVM, config: Mapping[str, str]) -> Iterator[Change]:
    """With the node: else nothing boots where Kubernetes itself runs on this Proxmox.

    Order and delays are written only where they are listed: they need Sys.Modify on /.
    """
    startup, power = vm.spec.startup or Startup(), vm.spec.wanted_power
    on_boot = startup.on_boot if power == "Unmanaged" or startup.on_boot is not None else power == "Running"
    if on_boot is not None:
        yield from put(config, "onboot", on_boot, default=False)
    fields = {"order": startup.order, "up": startup.up_delay, "down": startup.down_delay}
    current = parse_props(config.get("startup", ""), "order")
    listed = {part: value for part, value in fields.items() if value is not None}
    props = amended(current, listed, dict.fromkeys(listed, -1))  # numbers, none of which is the default
    if props != current:
        yield Put(key="startup", value=render_props(props, None), was=config.get("startup"))


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


def updates(wanted: Wanted, config: Mapping[str, str]) -> Iterator[Problem]:
    """No key of a config, but a promise that cannot be kept is said as early as one."""
    window = wanted.vm.spec.updates.window
    if window is not None and zone(window) is None:
        message = (
            f"spec.updates.window.timeZone: the time zone database has no {window.time_zone}: set another name, such "
            "as Europe/Berlin or UTC"
        )
        yield Problem(reason="UnknownTimeZone", message=message)
