"""What a crash scenario is played on: a simulated cluster with other people's VMs, one ProxmoxVM, and operators.

What is particular to a ProxmoxVM can be overridden (``templates.TemplateStage``). A stage is made anew for each crash
point where the scenario leaves something behind, else used again. Nothing outlives it but an empty namespace. Not here:
killing (``points``), and what the scenarios are.
"""

import asyncio
import re
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Self
from unittest import mock

from controlplane import Cluster
from crash.points import Switch
from crash.witness import Witness
from harness.account import operator_kubeconfig
from harness.conditions import is_ready
from harness.kubeapi import Raw, Refused
from harness.operator import NAMESPACE, RunningOperator
from harness.waiting import until
from proxmox_operator.controllers.manager import Manager
from proxmox_operator.controllers.outcome import Outcome
from proxmox_operator.engine.queue import Key
from proxmox_operator.kube.client import Call
from proxmox_operator.kube.login import log_in
from proxmox_operator.kube.resources import NAMESPACES, PROXMOX_CLUSTERS, PROXMOX_VMS, SECRETS, Resource
from proxmox_operator.kube.transport import AioTransport
from proxmox_operator.planning.identity import read_mark
from proxmox_operator.planning.propstring import parse_props
from proxmox_operator.proxmox.client import Limits
from pvesim import PveSim
from pvesim.world import VmState, World

TEMPLATE, FOREIGN, FOREIGN_STOPPED = 9000, 500, 10001
SPAN = {"start": 10000, "end": 19999}
"""VMIDs of the ProxmoxCluster; a foreign VM stands among them. Enough of them for every run on one stage: each operator
that begins may leave a block unused."""

SOON, LATEST = 0.3, 1.5
"""``takeover_delay`` where nothing comes late, and where something does: longer than times are rounded by."""

POLL_INTERVAL = 0.15
PATIENCE = 60.0
FIRST_LOOK = 0.04
"""Seconds after which the operator looks at a task first; 0.1 in production."""
TASK_SECONDS = 0.1
"""Of a clone: it is seen running. The other tasks have ended when they are looked at first."""

SPEC: Raw = {
    "source": {"clone": {"vmid": TEMPLATE}},
    "cpu": {"cores": 3},
    "memory": {"size": "1Gi"},
    "bootDisk": {"size": "10Gi"},
    "disks": [{"name": "data", "size": "2Gi"}],
    "networks": [{"name": "net0", "ipv4": {"address": "10.0.0.5/24", "gateway": "10.0.0.1"}}],
    "tags": ["web"],
    "cloudInit": {"user": "debian", "dns": {"servers": ["10.0.0.1"]}},
}
SIZES_GIB = [2, 10]


class Stage:
    """Use as a context manager. ``storage`` and ``besides``, fields of every spec, are set before it is entered."""

    NAME = "web"
    resource: Resource = PROXMOX_VMS
    storage = "local-lvm"
    besides: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, control_plane: Cluster, kube: Witness, namespace: str) -> None:
        self._control_plane = control_plane
        self.kube = kube
        self.namespace = namespace
        self.cluster = f"lab-{namespace}"
        self.reserved: set[int] = set()
        self.sim = PveSim(nodes=2, task_seconds=TASK_SECONDS, time_scale=0.01)
        weights = self.sim.server.task_weights
        weights.update({kind: 0.2 for kind in weights if kind != "qmclone"})
        self._impatience = ExitStack()

    def __enter__(self) -> Self:
        self._impatience.enter_context(
            mock.patch("proxmox_operator.controllers.connecting.Limits", _impatient)
        )
        self._impatience.enter_context(mock.patch("proxmox_operator.proxmox.tasks.FASTEST", FIRST_LOOK))
        self.sim.start_server()
        if self.storage not in self.sim.server.storages:
            self.sim.add_storage(self.storage, "rbd", size_gib=1000)
        self.sim.add_template(vmid=TEMPLATE, storage=self.storage)
        self.sim.add_vm(FOREIGN, node="pve2", running=True, description="somebody else's")
        self.sim.add_vm(FOREIGN_STOPPED)
        self.foreign = self.sim.world()
        self.sim.recorder.clear()
        spec = {
            "endpoints": self.sim.urls,
            "credentialsSecretRef": {"name": "crash"},
            "tls": {"caBundle": self.sim.ca_pem},
            "access": [{"allow": "Everything"}],
            "defaults": {"storage": self.storage, "bridge": "vmbr0"},
            "vmidRange": SPAN,
        }
        self._remove_all()
        for name in (NAMESPACE, self.namespace):
            if self.kube.get(NAMESPACES, name) is None:
                self.kube.create(NAMESPACES, {"metadata": {"name": name}})
        credentials = {"tokenID": self.sim.token_id, "tokenSecret": self.sim.token_secret}
        with suppress(Refused):  # of an earlier stage; all simulators have the same token
            self.kube.create(
                SECRETS, {"metadata": {"name": "crash", "namespace": NAMESPACE}, "stringData": credentials}
            )
        self.kube.create(PROXMOX_CLUSTERS, {"metadata": {"name": self.cluster}, "spec": spec})
        return self

    def __exit__(self, *_: object) -> None:
        self._remove_all()
        self.sim.stop_server()
        self._impatience.close()

    def _remove_all(self) -> None:
        self.remove()
        self._remove_at_once(PROXMOX_CLUSTERS, self.cluster, "")

    # The object

    def apply(self, **spec: Any) -> None:
        """Make the object, or change it."""
        wanted = {**self.usual(), "clusterRef": {"name": self.cluster}, **self.besides, **spec}
        home = {"namespace": self.home} if self.home else {}
        self.kube.apply(self.resource, {"metadata": {"name": self.NAME, **home}, "spec": wanted})

    def usual(self) -> Raw:
        """Its spec, as far as a scenario does not say otherwise."""
        return SPEC

    @property
    def home(self) -> str:
        """Its namespace; empty for one that has none."""
        return self.namespace if self.resource.namespaced else ""

    def delete(self) -> None:
        self.kube.delete(self.resource, self.NAME, self.home)

    def remove(self) -> None:
        """Have the object gone, with the operator none the wiser."""
        self._remove_at_once(self.resource, self.NAME, self.home)

    def apply_anew(self) -> None:
        """Have the object gone, with no operator the wiser, and made again: another UID, and no status."""
        self.remove()
        self.apply()

    def raw(self) -> Raw | None:
        return self.kube.seen(self.resource, self.NAME, self.home)

    def is_ready(self) -> bool:
        """Ready for the present generation."""
        return is_ready(self.raw())

    def is_gone(self) -> bool:
        return self.raw() is None

    def is_going(self) -> bool:
        """Deleted, or being deleted."""
        raw = self.raw()
        return raw is None or "deletionTimestamp" in raw["metadata"]

    def vmid(self) -> int | None:
        """The VMID in its status, which joins ``reserved``."""
        vmid = ((self.raw() or {}).get("status") or {}).get("vmid")
        if not vmid:
            return None
        self.reserved.add(int(vmid))
        return int(vmid)

    def _remove_at_once(self, resource: Any, name: str, namespace: str) -> None:
        def gone() -> bool:
            if self.kube.get(resource, name, namespace) is None:
                return True
            self.kube.delete(resource, name, namespace)
            with suppress(Refused):
                self.kube.merge(resource, name, {"metadata": {"finalizers": None}}, namespace=namespace)
            return self.kube.get(resource, name, namespace) is None

        until(gone, f"{resource.kind} {name} is gone", seconds=PATIENCE)
        self.kube.forget(resource, name, namespace)

    # Operators

    def role(self, vmid: int) -> str:
        """What a VMID is here: the name of a point."""
        return {TEMPLATE: "template", FOREIGN: "foreign", FOREIGN_STOPPED: "foreign-too"}.get(vmid, "vm")

    def start(self, switch: Switch, *, after: Switch | None = None) -> "Operator":
        """``after``: that of the operator before, which has died."""
        return Operator(self._control_plane, self.namespace, self.cluster, self.resource.kind, switch, after)

    def deliver(self, switch: Switch) -> None:
        """Execute the late call of a dead operator."""
        switch.deliver(lambda call: asyncio.run(self._send(call)))

    async def _send(self, call: Call) -> None:
        transport = AioTransport(await log_in(operator_kubeconfig(self._control_plane)))
        try:
            await transport.send(call)
        finally:
            await transport.close()

    # What must be true at the end, whenever an operator died

    def complaints(self, *, exists: bool, power: str = "Running") -> list[str]:
        """What is wrong with the world; empty when everything is as if no operator had ever died."""
        world = self.sim.world()
        vmid = self.vmid() if exists else None
        ours = rf"VM {vmid} |volume {self.storage}:(\S+/)?vm-{vmid}-" if vmid else r"(?!)"
        found = self._complaints_of_others(world, ours)
        if not exists:
            return found + ([] if self.is_gone() else ["the object still exists"])
        return found + self._complaints_of_vm(world.vm(vmid or 0), world, power)

    def _complaints_of_others(self, world: World, ours: str) -> list[str]:
        """What is left behind or was touched besides ``ours``, a pattern of lines of a difference."""
        found = [f"task {kind} of {id} still runs" for kind, id in world.tasks]
        found += [f"volume {volume.name} is in no config" for volume in world.unreferenced]
        found += [line for line in self.foreign.diff(world) if not re.match(ours, line)]
        changed = [vm.vmid for vm in self.foreign.vms if world.vm(vm.vmid) != vm]
        found += [f"VM {other}, which is somebody else's, was changed" for other in changed]
        touched = {_target(call.path, call.params) for call in self.sim.recorder.mutating} - {None}
        if strangers := touched - self.reserved:
            found.append(f"VMs {strangers} were written to, reserved were {self.reserved}")
        return found

    def _complaints_of_vm(self, vm: VmState | None, world: World, power: str) -> list[str]:
        raw = self.raw()
        if raw is None or vm is None:
            return [f"there is no {'object' if raw is None else 'VM'}"]
        status, uid = raw["status"], raw["metadata"]["uid"]
        mark = read_mark(vm["description"] or "")
        sizes = sorted(v.size >> 30 for v in world.volumes_of(vm.vmid) if "cloudinit" not in v.name)
        facts: dict[str, tuple[object, object]] = {
            "ready": (self.is_ready(), True),
            "power": (vm.status, power.lower()),
            "status.power": (status.get("power"), power),
            "lock": (vm.lock, None),
            "pending": (vm.pending, ()),
            "name": (vm.name, self.NAME),
            "cores": (vm["cores"], "3"),
            "memory": (vm["memory"], "1024"),
            "tags": (vm["tags"], ";".join(sorted(("web", self.namespace)))),
            "ciuser": (vm["ciuser"], "debian"),
            "nameserver": (vm["nameserver"], "10.0.0.1"),
            "ipconfig0": (
                dict(parse_props(vm["ipconfig0"] or "", "ip")),
                {"gw": "10.0.0.1", "ip": "10.0.0.5/24"},
            ),
            "volumes": (sizes, SIZES_GIB),
            "mark": (mark and (mark.vmid, mark.uuid, mark.uid), (vm.vmid, status["uuid"], uid)),
            "smbios uuid": (parse_props(vm["smbios1"] or "", "uuid").get("uuid"), status["uuid"]),
            "started": (status.get("started"), True),
            "task": (status.get("task"), None),
            "provisioning": (status.get("provisioning"), None),
            "finalizers": (len(raw["metadata"].get("finalizers") or ()), 1),
        }
        return [
            f"{what} is {is_!r}, wanted {wanted!r}" for what, (is_, wanted) in facts.items() if is_ != wanted
        ]


def _target(path: str, params: dict[str, Any]) -> int | None:
    """The VMID that a mutating call would make or change; None for one about a file on a storage."""
    if path.startswith("/cluster/ha/resources"):
        return int(str(params.get("sid") or path).rpartition(":")[2])
    if "/storage/" in path:
        owner = str(params.get("filename") or path).partition("pvm-seed-")[2].partition("-")[0]
        return int(owner) if owner else None
    if path.endswith("/qemu"):
        return int(params["vmid"])
    vmid = path.split("/qemu/")[1].split("/")[0]
    return int(params["newid"]) if path.endswith("/clone") else int(vmid)


class Operator:
    """One operator in this process, with a switch in its doors.

    ``passed`` is set once it has looked at an object of ``kind`` with Proxmox in reach. While the one before owes a
    call, its wall clock stands still: a late call is one that comes within ``takeover_delay``, however slow we are.
    """

    def __init__(
        self,
        control_plane: Cluster,
        namespace: str,
        cluster: str,
        kind: str,
        switch: Switch,
        after: Switch | None,
    ) -> None:
        self.switch = switch
        self._after = after
        self.passed = False
        self._cluster = cluster
        self._kind = kind
        self._running = RunningOperator(
            operator_kubeconfig(control_plane), namespace=namespace, wrap=switch.wrap, connect=switch.connect,
            workers=4, slow_retry=0.2, takeover_delay=LATEST if after and after.owes else SOON,
            prepare=self._prepare,
        )  # fmt: skip
        self._running.__enter__()

    def kill(self) -> None:
        self._running.kill()

    @property
    def connected(self) -> bool:
        """It has Proxmox in reach."""
        member = self._manager.fleet.get(self._cluster)
        return member is not None and member.problem is None and member.session is not None

    @property
    def failure(self) -> str | None:
        """A bug that showed: the operator ended by itself, or a pass ended in an exception."""
        bugs = [
            sample.value
            for metric in self._manager.metrics.handler_bugs.collect()
            for sample in metric.samples
        ]
        if self._running.error is not None or any(bugs):
            return f"the operator ended in {self._running.error!r}, {sum(bugs):g} passes ended in a bug"
        return None

    def _now(self) -> datetime:
        if self._after is not None and self._after.owes:
            return self._after.died_at
        return datetime.now(UTC).replace(microsecond=0)

    def _prepare(self, manager: Manager) -> None:
        self._manager = manager
        manager.context.now = self._now
        reconcile = manager._reconcilers[self._kind]

        async def counted(key: Key) -> Outcome:
            connected = self.connected
            outcome = await reconcile(key)
            self.passed = self.passed or connected
            return outcome

        manager._reconcilers[self._kind] = counted


def _impatient(**limits: Any) -> Limits:
    return Limits(**{**limits, "poll_interval": POLL_INTERVAL})
