"""Objects to decide about, as short as a test can say them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from proxmox_operator.api import ClusterSpec, ProxmoxVM
from proxmox_operator.api.names import FINALIZER
from proxmox_operator.planning.identity import Mark, Owner
from proxmox_operator.planning.lifecycle import Facts, Present
from proxmox_operator.planning.moving import Going
from proxmox_operator.planning.placement import Needs, Placed, Template
from proxmox_operator.planning.vmconfig import ConfigDiff, Wanted

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
UUID = "6a1c9c53-3f0e-4c7d-9d0b-1f6f5a0c7e11"
MARK = Mark(
    cluster_id="k8s-1",
    namespace_uid="ns-1",
    namespace="shop",
    name="web-1",
    uid="uid-1",
    vmid=10000,
    uuid=UUID,
)
INTENT = {"sourceNode": "pve1", "sourceVmid": 9000, "full": False, "since": NOW.isoformat()}
TEMPLATE = Template(
    vmid=9000, node="pve1", is_template=True, config={"scsi0": "local-lvm:base-9000-disk-0,size=2G"}
)
GOING = Going(
    target="pve2",
    live=True,
    local_disks=False,
    cause="the test",
    needs=Needs(memory=0, cpus=0, storages={}, bridges={}),
)
PLACE = Placed(node="pve1", template=TEMPLATE, full=False, storage=None, memory=0)


def a_vm(
    *,
    status: dict[str, Any] | None = None,
    deleting: bool = False,
    held: bool = True,
    name: str = "web-1",
    conditions: tuple[dict[str, Any], ...] = (),
    **spec: Any,
) -> ProxmoxVM:
    """A ProxmoxVM; ``spec`` and ``status`` by the names on the wire."""
    metadata: dict[str, Any] = {"name": name, "namespace": "shop", "uid": "uid-1", "generation": 3}
    metadata["finalizers"] = [FINALIZER] if held else []
    if deleting:
        metadata["deletionTimestamp"] = NOW.isoformat()
    whole = {"source": {"clone": {"vmid": 9000}}} | spec
    shown = {**(status or {}), "conditions": list(conditions)}
    return ProxmoxVM.parse({"metadata": metadata, "spec": whole, "status": shown})


def made(**status: Any) -> dict[str, Any]:
    """The status of a VM that exists."""
    return {"vmid": 10000, "uuid": UUID, "node": "pve1", "cluster": "lab", "started": True} | status


def present(**changes: Any) -> Present:
    """A VM of ours that runs as it should."""
    usual: dict[str, Any] = {
        "node": "pve1",
        "power": "Running",
        "lock": None,
        "owner": Owner.OURS,
        "diff": ConfigDiff(),
    }
    return Present(**(usual | changes))


def facts(vm: ProxmoxVM, **changes: Any) -> Facts:
    """What was gathered about ``vm``."""
    return Facts(vm=vm, now=NOW, **changes)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def wanted(vm: ProxmoxVM, **changes: Any) -> Wanted:
    """What a config is compared with, under the usual defaults."""
    usual: dict[str, Any] = {
        "mark": MARK,
        "started": vm.status.started,
        "storage": "local-lvm",
        "bridge": "vmbr0",
    }
    return Wanted(vm=vm, **(usual | changes))


def cluster(*access: dict[str, Any], **spec: Any) -> ClusterSpec:
    """A ProxmoxCluster's spec with these grants, defaults local-lvm and vmbr0."""
    whole = {
        "endpoints": ["https://pve1:8006"],
        "credentialsSecretRef": {"name": "pve"},
        "defaults": {"storage": "local-lvm", "bridge": "vmbr0"},
        "access": list(access),
    }
    return ClusterSpec.model_validate(whole | spec)
