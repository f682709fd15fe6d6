"""The kinds that are read or written, and where the API server serves them."""

from typing import NamedTuple

from proxmox_operator.api.names import GROUP, VERSION


class Resource(NamedTuple):
    """A kind as it appears in a path."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """As in an object's ``apiVersion``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def label(self) -> str:
        """As in RBAC rules and kubectl: ``leases.coordination.k8s.io``."""
        if not self.plural:
            return "discovery"
        return f"{self.plural}.{self.group}" if self.group else self.plural


PROXMOX_CLUSTERS = Resource(GROUP, VERSION, "proxmoxclusters", "ProxmoxCluster", namespaced=False)
PROXMOX_VMS = Resource(GROUP, VERSION, "proxmoxvms", "ProxmoxVM")
VM_TEMPLATES = Resource(GROUP, VERSION, "vmtemplates", "VMTemplate", namespaced=False)
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
SECRETS = Resource("", "v1", "secrets", "Secret")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
EVENTS = Resource("events.k8s.io", "v1", "events", "Event")

API_GROUPS = Resource("", "", "", "APIGroupList", namespaced=False)


def api_of(group: str, version: str) -> Resource:
    """What discovery tells of one version of a group."""
    return Resource(group, version, "", "APIResourceList", namespaced=False)


OWN_KINDS = {resource.kind: resource for resource in (PROXMOX_CLUSTERS, PROXMOX_VMS, VM_TEMPLATES)}
