"""One simulated Proxmox cluster, one operator and its namespaces, and the words a test on a bad day needs.

    WORLD = {"namespaces": 2}                             # in a module: settings of its world; the fixtures `world` and
                                                          # `shared_world` of tests/integration/conftest.py do the rest

    def test_something(world):
        name = world.make("web")                          # a fresh name, applied (clone of template 9000)
        vmid = world.wait_ready(name)                     # status.vmid
        before = world.sim.world()
        world.sim.stop(vmid)
        world.wait_until(lambda: world.sim.vm(vmid).status == "running", "the VM was started again")
        assert before.diff(world.sim.world()) == []

**Objects.** `apply(name, **spec)` (server-side apply: a field left out later is removed), `edit(name, **spec)`
(merge patch), `annotate`, `delete`, `raw`, `status`, `vmid`, `condition(name, "Ready") -> Condition`,
`events(name) -> [Said]`. The same for the cluster: `apply_cluster(**spec)`, `cluster_raw`, `cluster_condition`,
`wait_cluster(reason)`, `set_secret`.
**Waiting.** `wait_ready`, `wait_reason(name, "Missing") -> Condition`, `wait_gone`, `wait_event(name, reason) -> note`,
`wait_until(predicate, what)`: all poll with a deadline and fail with the object's conditions. `passes(name, 2)`: the
operator has looked at the object that many more times, so that "nothing was written" means something; `looked` counts
them all. `look()`: it knows Proxmox as it is now.
**Proxmox.** `sim` is the simulator; `writes(vmid)` are the mutating calls since `fresh()` or `forget_writes()`.

The inventory is polled every 0.1 s instead of 5 s, configs are re-read every 0.3 s, and what needs a person is retried
every 0.2 s. `restart()` ends the operator in order and starts another; `kill()` and `start()` do it the hard way.
Nothing of a world survives its end.
"""

import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, Self
from unittest import mock

from controlplane import Cluster
from harness.account import operator_kubeconfig
from harness.conditions import Condition, condition_of, current_condition, is_ready, lines
from harness.kubeapi import KubeApi, Raw, Refused
from harness.operator import NAMESPACE, RunningOperator
from harness.waiting import PATIENCE, until
from proxmox_operator.api.names import FINALIZER
from proxmox_operator.controllers.manager import Manager
from proxmox_operator.controllers.outcome import Outcome
from proxmox_operator.engine.queue import Key
from proxmox_operator.kube.resources import NAMESPACES, PROXMOX_CLUSTERS, PROXMOX_VMS, SECRETS, Resource
from proxmox_operator.proxmox.client import Limits
from pvesim import PveSim
from pvesim.recorder import Call
from pvesim.world import World as ProxmoxState

POLL = 0.1
"""Seconds between two looks of the operator at the simulated cluster; a manifest allows 1 s at least."""

MEMORY = 0.2
"""Seconds for which Secrets, namespaces' labels, templates and bridges are remembered; a minute in production."""

TEMPLATE = 9000
LOOK = "example.org/look"
OPERATOR_SETTINGS = {"slow_retry": 0.2, "config_reread": 0.3, "takeover_delay": 0.3}


class Said(NamedTuple):
    """One Event about an object."""

    type: str
    reason: str
    note: str


class World:
    """Use as a context manager, at most one at a time per API server."""

    def __init__(
        self,
        control_plane: Cluster,
        *,
        namespaces: int = 1,
        sim: Mapping[str, Any] | None = None,
        cluster: Mapping[str, Any] | None = None,
        template: bool = True,
        operator: Mapping[str, Any] | None = None,
        patient: bool = False,
    ) -> None:
        """``namespaces``: how many are watched; the first is the default of every method. ``sim``: settings of the
        simulator. ``cluster``: changes to the ProxmoxCluster's spec. ``operator``: settings of the operator.
        ``patient``: all intervals are those of production.
        """
        run = uuid.uuid4().hex[:8]
        self.namespaces = tuple(f"world-{run}-{number}" for number in range(namespaces))
        self.namespace = self.namespaces[0]
        self.cluster = f"lab-{run}"
        self.secret = f"pve-{run}"
        self.sim = PveSim(**{"time_scale": 0.02, **(sim or {})})
        self.control_plane = control_plane
        self.operator: RunningOperator | None = None
        self._patient = patient
        self._settings = {**({} if patient else OPERATOR_SETTINGS), **(operator or {})}
        self._cluster_changes = dict(cluster or {})
        self._template = template
        self._count = 0
        self.looked: Counter[Key] = Counter()
        self._looks: dict[Key, str | None] = {}
        self._mark = 0
        self._impatient = ExitStack()

    def __enter__(self) -> Self:
        if not self._patient:
            self._impatient.enter_context(
                mock.patch("proxmox_operator.controllers.connecting.Limits", _impatient)
            )
            self._impatient.enter_context(mock.patch("proxmox_operator.proxmox.session.FRESH", MEMORY))
            self._impatient.enter_context(mock.patch("proxmox_operator.controllers.vm.observe.FRESH", MEMORY))
        self.sim.start_server()
        self.kube = KubeApi(self.control_plane.kubeconfig)
        if self._template:
            self.sim.add_template(vmid=TEMPLATE)
        for name in (NAMESPACE, *self.namespaces):
            self._ensure_namespace(name)
        self.set_secret(tokenID=self.sim.token_id, tokenSecret=self.sim.token_secret)
        self.apply_cluster()
        self.start()
        self.wait_cluster("Ready")
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self.operator is not None:
                self.operator.stop()
        finally:
            self._sweep()
            self.remove(PROXMOX_CLUSTERS, self.cluster)
            self.kube.delete(SECRETS, self.secret, NAMESPACE)
            for name in self.namespaces:
                self.kube.delete(NAMESPACES, name)
            self.kube.__exit__()
            self.sim.stop_server()
            self._impatient.close()

    @contextmanager
    def fresh(self) -> Iterator[Self]:
        """Around each test: its objects and VMs are gone afterwards, faults are lifted, and the operator still runs."""
        kept = set(self.sim.world().vmids)
        self.forget_writes()
        try:
            yield self
        finally:
            self.sim.intercept = None
            self.sim.clear_failures()
            self._sweep()
            self.wait_until(self._is_idle, "no pass over a VM that was swept is under way any more")
            for vmid in set(self.sim.world().vmids) - kept:
                self.sim.vanish(vmid)
            self.look()
            assert self.operator is not None
            assert self.operator.error is None, f"the operator ended: {self.operator.error!r}"

    # The operator

    def start(self) -> None:
        """Start an operator that watches this world's namespaces."""
        changes = {"watch_namespaces": self.namespaces, **self._settings}
        self.operator = RunningOperator(operator_kubeconfig(self.control_plane), **changes).__enter__()
        manager = self.operator.manager
        assert manager is not None
        manager.context.secrets._max_age = manager.context.namespaces._seconds = MEMORY
        self._note_passes(manager)

    def kill(self) -> None:
        """End the operator between two instructions."""
        assert self.operator is not None
        self.operator.kill()

    def restart(self) -> None:
        """A clean stop and a new process with an empty memory; returns once that one has read the cluster."""
        assert self.operator is not None
        self.operator.stop()
        self.start()
        self.wait_until(self._is_connected, "the new operator has read the Proxmox cluster")

    def _is_connected(self) -> bool:
        manager = self.operator.manager if self.operator is not None else None
        member = manager.fleet.get(self.cluster) if manager is not None else None
        return member is not None and member.problem is None and member.session is not None

    def _is_idle(self) -> bool:
        manager = self.operator.manager if self.operator is not None else None
        member = manager.fleet.get(self.cluster) if manager is not None else None
        return member is None or member.passes == 0

    def look(self) -> None:
        """Wait until the operator knows the Proxmox cluster as it is now."""
        asked = time.monotonic()

        def seen() -> bool:
            manager = self.operator.manager if self.operator is not None else None
            member = manager.fleet.get(self.cluster) if manager is not None else None
            inventory = (
                member.session.inventory.current
                if member is not None and member.session is not None
                else None
            )
            return inventory is not None and inventory.taken_at > asked

        self.wait_until(seen, "the inventory was read anew")

    def passes(self, name: str, count: int = 2, *, namespace: str | None = None) -> None:
        """Wait until the operator has begun and ended ``count`` more passes over the object (it is told to)."""
        key = Key(PROXMOX_VMS.kind, namespace or self.namespace, name)
        for number in range(1, count + 1):
            mark = f"{time.monotonic()}-{number}"
            self.annotate(name, **{LOOK: mark}, namespace=namespace)
            self.wait_until(lambda mark=mark: self._looks.get(key) == mark, f"a pass over {name}")  # type: ignore[misc]

    def _note_passes(self, manager: Manager) -> None:
        """Note of the passes over each object how many have ended, and with which mark the last one began."""
        reconcile = manager._reconcilers[PROXMOX_VMS.kind]

        async def noted(key: Key) -> Outcome:
            raw = manager.store.get(key)
            mark = ((raw or {"metadata": {}})["metadata"].get("annotations") or {}).get(LOOK)
            outcome = await reconcile(key)
            self.looked[key] += 1
            self._looks[key] = mark
            return outcome

        manager._reconcilers[PROXMOX_VMS.kind] = noted

    # ProxmoxVMs

    def name(self, prefix: str = "vm") -> str:
        """A name that no other test of this world uses."""
        self._count += 1
        return f"{prefix}-{self._count}"

    def make(
        self,
        prefix: str = "vm",
        *,
        namespace: str | None = None,
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        **spec: Any,
    ) -> str:
        """Apply a new ProxmoxVM and return its name."""
        name = self.name(prefix)
        raw = self.manifest(name, namespace=namespace, **spec)
        raw["metadata"] |= {"labels": dict(labels or {}), "annotations": dict(annotations or {})}
        self.kube.apply(PROXMOX_VMS, raw)
        return name

    def manifest(self, name: str, *, namespace: str | None = None, **spec: Any) -> Raw:
        """A ProxmoxVM that clones the template, with these fields of ``spec`` (camelCase) besides or instead."""
        wanted = {"clusterRef": {"name": self.cluster}, "source": {"clone": {"vmid": TEMPLATE}}, **spec}
        return {"metadata": {"name": name, "namespace": namespace or self.namespace}, "spec": wanted}

    def apply(self, name: str, *, namespace: str | None = None, **spec: Any) -> Raw:
        """Apply :meth:`manifest`. Raises Refused."""
        return self.kube.apply(PROXMOX_VMS, self.manifest(name, namespace=namespace, **spec))

    def edit(self, name: str, *, namespace: str | None = None, **spec: Any) -> Raw:
        """Change fields of ``spec``; None removes one."""
        return self.kube.merge(PROXMOX_VMS, name, {"spec": spec}, namespace=namespace or self.namespace)

    def annotate(self, name: str, *, namespace: str | None = None, **annotations: str | None) -> Raw:
        patch = {"metadata": {"annotations": annotations}}
        return self.kube.merge(PROXMOX_VMS, name, patch, namespace=namespace or self.namespace)

    def delete(self, name: str, *, namespace: str | None = None) -> None:
        """Start the deletion; see :meth:`wait_gone`."""
        self.kube.delete(PROXMOX_VMS, name, namespace or self.namespace)

    def raw(self, name: str, *, namespace: str | None = None) -> Raw | None:
        """The object as it is now, or None."""
        return self.kube.get(PROXMOX_VMS, name, namespace or self.namespace)

    def status(self, name: str, *, namespace: str | None = None) -> Raw:
        """Its status; empty where there is none."""
        return dict((self.raw(name, namespace=namespace) or {}).get("status") or {})

    def vmid(self, name: str, *, namespace: str | None = None) -> int:
        """The VMID that was reserved for it (waits for that)."""
        reserved = lambda: self.status(name, namespace=namespace).get("vmid")  # noqa: E731
        return int(self.wait_until(reserved, f"{name} has a VMID", name, namespace))

    def condition(self, name: str, kind: str = "Ready", *, namespace: str | None = None) -> Condition | None:
        """One of its conditions as it is now."""
        return condition_of(self.raw(name, namespace=namespace), kind)

    def events(self, name: str, *, namespace: str | None = None) -> list[Said]:
        """The Events about it, in no order."""
        found = self.kube.events(namespace or self.namespace, name)
        return [Said(raw.get("type", ""), raw.get("reason", ""), raw.get("note", "")) for raw in found]

    # Waiting

    def wait_ready(self, name: str, *, namespace: str | None = None, timeout: float = PATIENCE) -> int:
        """Wait until Ready is True for the present generation; returns the VMID."""
        ready = lambda: is_ready(self.raw(name, namespace=namespace))  # noqa: E731
        self.wait_until(ready, f"{name} is Ready", name, namespace, timeout=timeout)
        return int(self.status(name, namespace=namespace)["vmid"])

    def wait_reason(
        self,
        name: str,
        reason: str,
        *,
        kind: str = "Ready",
        namespace: str | None = None,
        timeout: float = PATIENCE,
    ) -> Condition:
        """Wait until a condition has this reason; returns it."""

        def shown() -> Condition | None:
            found = self.condition(name, kind, namespace=namespace)
            return found if found is not None and found.reason == reason else None

        return self.wait_until(shown, f"{name} shows {kind}={reason}", name, namespace, timeout=timeout)

    def wait_gone(self, name: str, *, namespace: str | None = None, timeout: float = PATIENCE) -> None:
        """Wait until the object no longer exists."""
        self.wait_until(
            lambda: self.raw(name, namespace=namespace) is None,
            f"{name} is gone",
            name,
            namespace,
            timeout=timeout,
        )

    def wait_event(self, name: str, reason: str, *, namespace: str | None = None) -> str:
        """Wait for an Event with this reason; returns its note."""

        def notes() -> list[str]:
            said = self.events(name, namespace=namespace)
            return [each.note for each in said if each.reason == reason]

        return self.wait_until(notes, f"an Event {reason} about {name}", name, namespace)[0]

    def wait_until[T](
        self,
        look: Callable[[], T | None],
        what: str,
        name: str | None = None,
        namespace: str | None = None,
        *,
        timeout: float = PATIENCE,
        seen: Callable[[], str] | None = None,
    ) -> T:
        """As :func:`harness.waiting.until`, while the operator lives.

        What is ``seen`` is what the ProxmoxVM ``name`` says of itself, unless told otherwise.
        """

        def watched() -> T | None:
            found = look()
            if not found and self.operator is not None and self.operator.error is not None:
                raise AssertionError(f"the operator ended: {self.operator.error!r}")
            return found

        return until(watched, what, seconds=timeout, seen=seen or (lambda: self._explain(name, namespace)))

    def _explain(self, name: str | None, namespace: str | None) -> str:
        if name is None:
            return ""
        raw = self.raw(name, namespace=namespace)
        if raw is None:
            return f"{name} does not exist"
        rest = {key: value for key, value in (raw.get("status") or {}).items() if key != "conditions"}
        said = [f"Event {each.reason}: {each.note}" for each in self.events(name, namespace=namespace)]
        return "\n".join([*lines(raw), *said, f"status: {rest}"])

    # The ProxmoxCluster and its Secret

    def apply_cluster(self, **spec: Any) -> Raw:
        """Apply the ProxmoxCluster: what every test needs, with these fields of ``spec`` besides or instead.

        None leaves a field out.
        """
        wanted: dict[str, Any] = {
            "endpoints": self.sim.urls,
            "credentialsSecretRef": {"name": self.secret},
            "tls": {"caBundle": self.sim.ca_pem},
            "access": [{"allow": "Everything"}],
            "defaults": {"storage": "local-lvm", "bridge": "vmbr0"},
            "limits": {"configReadsPerSecond": 100},
        }
        wanted = {
            key: value
            for key, value in {**wanted, **self._cluster_changes, **spec}.items()
            if value is not None
        }
        return self.kube.apply(PROXMOX_CLUSTERS, {"metadata": {"name": self.cluster}, "spec": wanted})

    def cluster_raw(self) -> Raw | None:
        return self.kube.get(PROXMOX_CLUSTERS, self.cluster)

    def cluster_condition(self, kind: str = "Ready") -> Condition | None:
        return condition_of(self.cluster_raw(), kind)

    def wait_cluster(self, reason: str, *, kind: str = "Ready", timeout: float = PATIENCE) -> Condition:
        """Wait until a condition of the ProxmoxCluster has this reason for its present generation; returns it."""

        def shown() -> Condition | None:
            found = current_condition(self.cluster_raw(), kind)
            return found if found is not None and found.reason == reason else None

        seen = lambda: str((self.cluster_raw() or {}).get("status"))  # noqa: E731
        return self.wait_until(shown, f"{self.cluster} shows {kind}={reason}", timeout=timeout, seen=seen)

    def set_secret(self, *, name: str | None = None, namespace: str = NAMESPACE, **values: str) -> None:
        """Make or change a Secret; without a name the one of the cluster's credentials."""
        name = name or self.secret
        self.kube.delete(SECRETS, name, namespace)
        manifest = {"metadata": {"name": name, "namespace": namespace}, "stringData": values}
        self.kube.create(SECRETS, manifest)

    # Proxmox

    def forget_writes(self) -> None:
        """:meth:`writes` begins anew."""
        calls = list(self.sim.recorder)
        self._mark = calls[-1].seq if calls else 0

    def writes(self, vmid: int | None = None) -> list[Call]:
        """The mutating calls since the test began; with ``vmid`` those whose path or ``newid`` names that VM."""
        calls = [call for call in self.sim.recorder.mutating if call.seq > self._mark]
        if vmid is None:
            return calls
        named = re.compile(rf"/(qemu|lxc)/{vmid}(/|$)")
        return [
            call for call in calls if named.search(call.path) or str(call.params.get("newid")) == str(vmid)
        ]

    def changes_besides(self, before: ProxmoxState, *vmids: int) -> list[str]:
        """What is different in Proxmox since ``before``, leaving out these VMs and their volumes."""
        ours = re.compile("|".join(rf"^VM {vmid} |(vm|base)-{vmid}-" for vmid in vmids) or r"(?!)")
        return [line for line in before.diff(self.sim.world()) if not ours.search(line)]

    def tags(self, vmid: int) -> str:
        """The VM's tags as Proxmox has them, without that of its namespace (checked: it is there)."""
        tags = self.sim.vm(vmid).config.get("tags", "").split(";")
        assert set(tags) & set(self.namespaces), f"VM {vmid} is not tagged with its namespace: {tags}"
        return ";".join(tag for tag in tags if tag not in self.namespaces)

    def leaks(self) -> list[str]:
        """Volumes that no VM mentions, and running tasks."""
        world = self.sim.world()
        return [f"volume {volume.storage}:{volume.name}" for volume in world.unreferenced] + [
            str(task) for task in world.tasks
        ]

    # Tidying up

    def _ensure_namespace(self, name: str) -> None:
        if self.kube.get(NAMESPACES, name) is None:
            self.kube.create(NAMESPACES, {"metadata": {"name": name, "labels": {"world": name}}})

    def _sweep(self) -> None:
        for namespace in self.namespaces:
            for raw in self.kube.listed(PROXMOX_VMS, namespace):
                self.remove(PROXMOX_VMS, raw["metadata"]["name"], namespace)

    def remove(self, resource: Resource, name: str, namespace: str = "") -> None:
        """Delete an object without waiting for anybody who holds it."""

        def gone() -> bool:
            self.kube.delete(resource, name, namespace)
            raw = self.kube.get(resource, name, namespace)
            if raw is None:
                return True
            if FINALIZER in (raw["metadata"].get("finalizers") or ()):
                try:
                    self.kube.merge(resource, name, {"metadata": {"finalizers": None}}, namespace=namespace)
                except Refused as error:
                    if error.status != 404:
                        raise
            return self.kube.get(resource, name, namespace) is None

        self.wait_until(gone, f"{resource.kind} {name} is removed")


def _impatient(**limits: Any) -> Limits:
    return Limits(**{**limits, "poll_interval": POLL})
