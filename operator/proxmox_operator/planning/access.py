"""Tenancy: what a namespace may take from a ProxmoxCluster.

Grants add up: what any matching grant allows is allowed. Without ``spec.access`` a namespace gets VMTemplates, the
default storage and bridge, and nothing else. Checked on every pass, so a grant taken back stops further writes;
it never destroys what exists.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from proxmox_operator.api import AccessGrant, ClusterSpec, LabelSelector, MaxSizes, ProxmoxVM, Range
from proxmox_operator.api.quantity import format_gib, parse_quantity
from proxmox_operator.planning import disks
from proxmox_operator.planning.configured import memory_mib, topology


@dataclass(frozen=True, kw_only=True)
class Access:
    """The grants that apply to one namespace, and the cluster's defaults that everybody has."""

    grants: tuple[AccessGrant, ...]
    storage: str | None
    bridge: str | None
    seed_storage: str | None = None

    @property
    def everything(self) -> bool:
        return any(grant.allow == "Everything" for grant in self.grants)

    @property
    def recover(self) -> bool:
        """Whether VMs of an earlier namespace or of another Kubernetes cluster may be taken back.

        Never part of Everything: two clusters that share a Proxmox and a Git repository would take each other's VMs.
        """
        return any(grant.recover for grant in self.grants)

    def allows_node(self, node: str) -> bool:
        return self.everything or _unlimited_or_listed(node, [grant.nodes for grant in self.grants])

    def allows_template(self, template: str) -> bool:
        return self.everything or _unlimited_or_listed(template, [grant.templates for grant in self.grants])

    def allows_storage(self, storage: str) -> bool:
        granted = (name for grant in self.grants for name in grant.storages or ())
        return self.everything or storage == self.storage or _listed(storage, granted)

    def allows_seed_storage(self, storage: str) -> bool:
        """Whether user data may be put on the storage; the default one is for nothing else."""
        return storage == self.seed_storage or self.allows_storage(storage)

    def allows_bridge(self, bridge: str, vlan: int | None) -> bool:
        """Whether a device may be on the bridge: in a VLAN, or untagged, where ``vlan`` is None.

        Untagged reaches every VLAN that the bridge passes, by frames that the guest tags itself: so a grant that names
        VLANs does not include it.
        """
        if self.everything or (bridge == self.bridge and vlan is None):
            return True
        for entry in (entry for grant in self.grants for entry in grant.bridges or ()):
            if entry.name in (bridge, "*") and (
                not entry.vlans or (vlan is not None and _within(vlan, entry.vlans))
            ):
                return True
        return False

    def refused_trunks(self, bridge: str, trunks: Iterable[Range]) -> list[str]:
        """Those of the trunks that hold a VLAN which is not granted: a guest is in every VLAN that is passed to it."""
        granted = [entry for grant in self.grants for entry in grant.bridges if entry.name in (bridge, "*")]
        if self.everything or any(not entry.vlans for entry in granted):
            return []
        tags = {tag for entry in granted for span in entry.vlans for tag in range(span.start, span.end + 1)}
        refused = [span for span in trunks if not tags.issuperset(range(span.start, span.end + 1))]
        return [str(span.start) if span.start == span.end else f"{span.start}-{span.end}" for span in refused]

    def allows_clone(self, vmid: int) -> bool:
        return self.everything or any(_within(vmid, grant.clone_from or ()) for grant in self.grants)

    def allows_adoption(self, vmid: int | None) -> bool:
        """Whether the VM may be taken over; None: whether any may, where it is known by its UUID only."""
        ranges = [entry for grant in self.grants for entry in grant.adopt]
        return self.everything or (bool(ranges) if vmid is None else _within(vmid, ranges))

    @property
    def availability(self) -> bool:
        """Whether VMs may be put under HA."""
        return self.everything or any(grant.availability for grant in self.grants)

    def allows_mapping(self, mapping: str) -> bool:
        return self.everything or _listed(mapping, (name for grant in self.grants for name in grant.mappings))

    def allows_vmid(self, vmid: int) -> bool:
        return self.everything or any(_within(vmid, grant.vmids or ()) for grant in self.grants)


def access_of(spec: ClusterSpec, namespace_labels: Mapping[str, str]) -> Access:
    """What the ProxmoxCluster grants a namespace with these labels."""
    grants = tuple(
        grant for grant in spec.access or () if selects(grant.namespace_selector, namespace_labels)
    )
    defaults = spec.defaults
    return Access(
        grants=grants,
        storage=defaults.storage,
        bridge=defaults.bridge,
        seed_storage=defaults.seed_storage,
    )


def selects(selector: LabelSelector | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector matches, as Kubernetes defines it; an absent one matches everything."""
    if selector is None:
        return True
    if any(labels.get(key) != value for key, value in (selector.match_labels or {}).items()):
        return False
    for rule in selector.match_expressions or ():
        present, value = rule.key in labels, labels.get(rule.key)
        holds = {
            "In": value in (rule.values or ()),
            "NotIn": value not in (rule.values or ()),
            "Exists": present,
            "DoesNotExist": not present,
        }[rule.operator]
        if not holds:
            return False
    return True


def violations(vm: ProxmoxVM, access: Access) -> list[str]:
    """Everything the object asks for that its namespace was not granted, each as a sentence for its author."""
    if access.everything:
        return []
    spec, found = vm.spec, []
    clone, ref = spec.source.clone, spec.source.template_ref
    if ref is not None and not access.allows_template(ref.name):
        found.append(
            f"spec.source.templateRef.name: VMTemplate {ref.name} is not granted (access[].templates)"
        )
    if clone is not None and not access.allows_clone(clone.vmid):
        found.append(f"spec.source.clone.vmid: cloning VM {clone.vmid} is not granted (access[].cloneFrom)")
    adopt = spec.source.adopt
    if adopt is not None and not access.allows_adoption(adopt.vmid or vm.status.vmid):
        # By its UUID no VMID is told: it may be outside of what the namespace is to know.
        which = f"VM {adopt.vmid}" if adopt.vmid is not None else "the VM with this UUID"
        found.append(f"spec.source.adopt: taking over {which} is not granted (access[].adopt)")
    if spec.vmid is not None and adopt is None and not access.allows_vmid(spec.vmid):
        found.append(f"spec.vmid: requesting VMID {spec.vmid} is not granted (access[].vmids)")
    storages = [("spec.bootDisk.storage", spec.boot_disk.storage if spec.boot_disk else None)]
    storages.append(("spec.source.clone.storage", clone.storage if clone else None))
    storages.append(("spec.source.templateRef.storage", ref.storage if ref else None))
    storages.append(("spec.cloudInit.storage", spec.cloud_init.storage if spec.cloud_init else None))
    storages += [(f"spec.disks[{disk.name}].storage", disk.storage) for disk in spec.disks]
    for field, storage in storages:
        if storage is not None and not access.allows_storage(storage):
            found.append(f"{field}: storage {storage} is not granted (access[].storages)")
    seeded = spec.cloud_init.seed_storage if spec.cloud_init is not None else None
    if seeded is not None and not access.allows_seed_storage(seeded):
        found.append(f"spec.cloudInit.seedStorage: storage {seeded} is not granted (access[].storages)")
    for network in spec.networks:
        bridge = network.bridge or access.bridge
        if bridge is not None and not access.allows_bridge(bridge, network.vlan):
            where = f"bridge {bridge}" + (f" with VLAN {network.vlan}" if network.vlan else "")
            found.append(f"spec.networks[{network.name}]: {where} is not granted (access[].bridges)")
        if bridge is not None and (trunks := access.refused_trunks(bridge, network.trunks)):
            message = f"bridge {bridge} with VLANs {', '.join(trunks)} is not granted (access[].bridges)"
            found.append(f"spec.networks[{network.name}].trunks: {message}")
    devices = [(f"spec.pciDevices[{device.name}]", device.mapping) for device in spec.pci_devices]
    devices += [(f"spec.usbDevices[{device.name}]", device.mapping) for device in spec.usb_devices]
    for field, mapping in devices:
        if not access.allows_mapping(mapping):
            found.append(f"{field}.mapping: {mapping} is not granted (access[].mappings)")
    if spec.availability is not None and spec.availability.ha and not access.availability:
        found.append("spec.availability.ha: high availability is not granted (access[].availability)")
    for field, node in _nodes(vm):
        if not access.allows_node(node):
            found.append(f"{field}: node {node} is not granted (access[].nodes)")
    return found + _too_large(vm, access)


def _nodes(vm: ProxmoxVM) -> Iterator[tuple[str, str]]:
    """Every node that the spec names, with the field."""
    if vm.spec.placement is not None:
        yield from (("spec.placement.nodes", node) for node in vm.spec.placement.nodes)
    rule = vm.spec.availability.rule if vm.spec.availability is not None else None
    if rule is not None and rule.node_affinity is not None:
        field = "spec.availability.rule.nodeAffinity.nodes"
        yield from ((field, node.name) for node in rule.node_affinity.nodes)


class _Limits(NamedTuple):
    """The largest sizes that any grant allows; None where there is no limit. Memory and disk in bytes."""

    cores: int | None
    memory: int | None
    disk: int | None


def _limits(access: Access) -> _Limits:
    """A grant without ``maxSizes``, or without one of its fields, sets no limit there, and so there is none."""
    sizes = [grant.max_sizes or MaxSizes() for grant in access.grants]

    def largest(values: Iterable[int | None]) -> int | None:
        known = list(values)
        return None if None in known else max((value for value in known if value is not None), default=None)

    return _Limits(
        cores=largest(each.cores for each in sizes),
        memory=largest(parse_quantity(each.memory) if each.memory else None for each in sizes),
        disk=largest(parse_quantity(each.disk) if each.disk else None for each in sizes),
    )


def _too_large(vm: ProxmoxVM, access: Access) -> list[str]:
    """Sizes of the spec above the largest one that any grant allows."""
    limits, spec, found = _limits(access), vm.spec, []
    if spec.cpu is not None and limits.cores is not None:
        asked = (spec.cpu.cores or 1) * (spec.cpu.sockets or 1)
        if spec.cpu.cores is None and asked > 1:
            found.append(
                "spec.cpu.cores: set it beside sockets, as cores are limited (access[].maxSizes.cores)"
            )
        elif asked > limits.cores:
            found.append(
                f"spec.cpu: {asked} cores are more than the {limits.cores} granted (access[].maxSizes.cores)"
            )
    wanted = [("spec.memory.size", spec.memory.size if spec.memory else None, "memory", limits.memory)]
    boot = spec.boot_disk.size if spec.boot_disk is not None else None
    wanted.append(("spec.bootDisk.size", boot, "disk", limits.disk))
    wanted += [(f"spec.disks[{disk.name}].size", disk.size, "disk", limits.disk) for disk in spec.disks]
    for field, size, kind, most in wanted:
        if size is not None and most is not None and parse_quantity(size) > most:
            found.append(
                f"{field}: {size} is more than the {format_gib(most)} granted (access[].maxSizes.{kind})"
            )
    return found


def inherited_violations(vm: ProxmoxVM, config: Mapping[str, str], access: Access) -> list[str]:
    """What the source's config brings along, where the spec says nothing else, above the largest size granted.

    Asked when a VM is made from it, or when it is taken over; what people later change in Proxmox is theirs to answer
    for.
    """
    if access.everything:
        return []
    limits, spec, found = _limits(access), vm.spec, []
    number = topology(config)
    asked = (spec.cpu.cores if spec.cpu else None, spec.cpu.sockets if spec.cpu else None)
    cores = (asked[0] or number[0]) * (asked[1] or number[1])
    if limits.cores is not None and cores > limits.cores and None in asked:
        found.append(
            f"spec.cpu: with what the source has there would be {cores} cores, more than the {limits.cores} granted "
            "(access[].maxSizes.cores): set cores and sockets"
        )
    memory = memory_mib(config) << 20
    if spec.memory is None and limits.memory is not None and memory > limits.memory:
        found.append(
            f"spec.memory: the source has {format_gib(memory)}, more than the {format_gib(limits.memory)} granted "
            "(access[].maxSizes.memory): set a size"
        )
    for slot, drive in disks.drives(config).items():
        if limits.disk is not None and drive.size > limits.disk:
            found.append(
                f"spec.source: {slot} of the source has {format_gib(drive.size)}, more than the "
                f"{format_gib(limits.disk)} granted (access[].maxSizes.disk): choose another source"
            )
    return found


def _unlimited_or_listed(name: str, lists: Sequence[Sequence[str]]) -> bool:
    """Whether any grant lists the name, or leaves the list out; without a grant there is nothing that limits."""
    return not lists or any(not names or _listed(name, names) for names in lists)


def _listed(name: str, names: Iterable[str]) -> bool:
    return any(entry in (name, "*") for entry in names)


def _within(value: int, ranges: Iterable[Range]) -> bool:
    return any(entry.start <= value <= entry.end for entry in ranges)
