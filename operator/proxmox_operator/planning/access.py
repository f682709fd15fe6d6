"""Tenancy: what a namespace may take from a ProxmoxCluster.

Grants add up: what any matching grant allows is allowed. Without ``spec.access`` a namespace gets the
default storage and bridge and nothing else. Checked on every pass, so a grant taken back stops further writes;
it never destroys what exists.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from proxmox_operator.api import AccessGrant, ClusterSpec, LabelSelector, ProxmoxVM, Range
from proxmox_operator.api.quantity import format_gib, parse_quantity


@dataclass(frozen=True, kw_only=True)
class Access:
    """The grants that apply to one namespace, and the cluster's defaults that everybody has."""

    grants: tuple[AccessGrant, ...]
    storage: str | None
    bridge: str | None

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
        limited = [grant.nodes for grant in self.grants if grant.nodes]
        open_grant = any(not grant.nodes for grant in self.grants)
        return self.everything or open_grant or not limited or any(node in nodes for nodes in limited)

    def allows_storage(self, storage: str) -> bool:
        granted = (name for grant in self.grants for name in grant.storages or ())
        return self.everything or storage == self.storage or _listed(storage, granted)

    def allows_bridge(self, bridge: str, vlan: int | None) -> bool:
        if self.everything or (bridge == self.bridge and vlan is None):
            return True
        for entry in (entry for grant in self.grants for entry in grant.bridges or ()):
            if entry.name in (bridge, "*") and (
                not entry.vlans or (vlan is not None and _within(vlan, entry.vlans))
            ):
                return True
        return False

    def allows_clone(self, vmid: int) -> bool:
        return self.everything or any(_within(vmid, grant.clone_from or ()) for grant in self.grants)

    def allows_vmid(self, vmid: int) -> bool:
        return self.everything or any(_within(vmid, grant.vmids or ()) for grant in self.grants)


def access_of(spec: ClusterSpec, namespace_labels: Mapping[str, str]) -> Access:
    """What the ProxmoxCluster grants a namespace with these labels."""
    grants = tuple(
        grant for grant in spec.access or () if selects(grant.namespace_selector, namespace_labels)
    )
    return Access(grants=grants, storage=spec.defaults.storage, bridge=spec.defaults.bridge)


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
    clone = spec.source.clone
    if clone is not None and not access.allows_clone(clone.vmid):
        found.append(f"spec.source.clone.vmid: cloning VM {clone.vmid} is not granted (access[].cloneFrom)")
    if spec.vmid is not None and not access.allows_vmid(spec.vmid):
        found.append(f"spec.vmid: requesting VMID {spec.vmid} is not granted (access[].vmids)")
    storages = [("spec.bootDisk.storage", spec.boot_disk.storage if spec.boot_disk else None)]
    storages.append(("spec.source.clone.storage", clone.storage if clone else None))
    storages.append(("spec.cloudInit.storage", spec.cloud_init.storage if spec.cloud_init else None))
    storages += [(f"spec.disks[{disk.name}].storage", disk.storage) for disk in spec.disks]
    for field, storage in storages:
        if storage is not None and not access.allows_storage(storage):
            found.append(f"{field}: storage {storage} is not granted (access[].storages)")
    for network in spec.networks:
        bridge = network.bridge or access.bridge
        if bridge is not None and not access.allows_bridge(bridge, network.vlan):
            where = f"bridge {bridge}" + (f" with VLAN {network.vlan}" if network.vlan else "")
            found.append(f"spec.networks[{network.name}]: {where} is not granted (access[].bridges)")
    if spec.placement is not None and spec.placement.nodes:
        refused = [node for node in spec.placement.nodes if not access.allows_node(node)]
        found += [f"spec.placement.nodes: node {node} is not granted (access[].nodes)" for node in refused]
    return found + _too_large(vm, access)


def _too_large(vm: ProxmoxVM, access: Access) -> list[str]:
    """Sizes above the largest one that any grant allows; a grant without ``maxSizes`` sets no limit."""
    limits = [grant.max_sizes for grant in access.grants]
    if not limits or any(limit is None for limit in limits):
        return []
    spec, found = vm.spec, []
    cores = [limit.cores for limit in limits if limit is not None]
    if spec.cpu is not None and all(c is not None for c in cores):
        largest, asked = (
            max(c for c in cores if c is not None),
            (spec.cpu.cores or 1) * (spec.cpu.sockets or 1),
        )
        if spec.cpu.cores is None and asked > 1:
            found.append(
                "spec.cpu.cores: set it beside sockets, as cores are limited (access[].maxSizes.cores)"
            )
        elif asked > largest:
            found.append(
                f"spec.cpu: {asked} cores are more than the {largest} granted (access[].maxSizes.cores)"
            )
    wanted = [("spec.memory.size", spec.memory.size if spec.memory else None, "memory")]
    wanted.append(("spec.bootDisk.size", spec.boot_disk.size if spec.boot_disk else None, "disk"))
    wanted += [(f"spec.disks[{disk.name}].size", disk.size, "disk") for disk in spec.disks]
    for field, size, kind in wanted:
        granted = [getattr(limit, kind) for limit in limits]
        if size is None or any(each is None for each in granted):
            continue
        largest = max(parse_quantity(each) for each in granted)
        if parse_quantity(size) > largest:
            found.append(
                f"{field}: {size} is more than the {format_gib(largest)} granted (access[].maxSizes.{kind})"
            )
    return found


def _listed(name: str, names: Iterable[str]) -> bool:
    return any(entry in (name, "*") for entry in names)


def _within(value: int, ranges: Iterable[Range]) -> bool:
    return any(entry.start <= value <= entry.end for entry in ranges)
