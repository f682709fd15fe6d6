"""Native cloud-init: its drive, ``ciuser`` and friends, and the addresses of the listed networks."""

from collections.abc import Iterator, Mapping
from urllib.parse import unquote

from proxmox_operator.api import Network, ProxmoxVM
from proxmox_operator.planning import disks
from proxmox_operator.planning.propstring import parse_props, render_props
from proxmox_operator.planning.seed import is_seeded
from proxmox_operator.planning.vmconfig.changes import Change, Problem, Put, Wanted, put

PASSWORD_KEY = "cipassword"  # noqa: S105 - the key, not a password


def cloud_init(wanted: Wanted, config: Mapping[str, str]) -> Iterator[Change]:
    """Native cloud-init (``ciuser`` and friends); nothing where the guest has user data of its own.

    A password reads back masked, so it is written once for each reference to a Secret, not compared.
    """
    spec = wanted.vm.spec
    if is_seeded(wanted.vm):
        return
    addressed = [network for network in spec.networks if network.ipv4 is not None or network.ipv6 is not None]
    if addressed or spec.cloud_init is not None:
        yield from _cloud_init_drive(wanted, config)
    for network in addressed:
        key, props = f"ipconfig{network.name.removeprefix('net')}", _ipconfig(network)
        if parse_props(config.get(key, ""), None) != props:
            yield Put(key=key, value=render_props(props, None), was=config.get(key))
    init = spec.cloud_init
    if init is None:
        return
    if init.user is not None:
        yield from put(config, "ciuser", init.user)
    if init.ssh_keys and _keys(config.get("sshkeys", "")) != [key.strip() for key in init.ssh_keys]:
        yield Put(key="sshkeys", value="\n".join(init.ssh_keys), was=config.get("sshkeys"))
    if init.dns is not None and init.dns.servers:
        yield from put(config, "nameserver", " ".join(init.dns.servers))
    if init.dns is not None and init.dns.search_domains:
        yield from put(config, "searchdomain", " ".join(init.dns.search_domains))
    if init.upgrade_packages is not None:
        yield from put(config, "ciupgrade", init.upgrade_packages, default=True)
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
