"""The life of N VMs: created, idle, drifted, under a restarted operator, deleted. Each phase yields its figures."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from bench.measure import Costs, Meter, Watcher, memory_mib
from bench.report import Figure, at_least, at_most, told
from demo.kube import CLUSTERS, Object, is_ready, vms
from demo.processes import Operator, StageError
from demo.stage import SYSTEM, Stage

NAMESPACE = "bench"
TEMPLATES = (9000, 9001, 9002)
SIMULATOR = ("--nodes=3", "--time-scale=0.05", "--boot-seconds=0", f"--templates={','.join(
    f'pve{number}:{vmid}:local-lvm' for number, vmid in enumerate(TEMPLATES, 1))}")  # fmt: skip
APPLYING = 8
DRIFTED = 0.1
LIFTED = {"callsPerNode": 32, "allocationsPerStorage": 16}


class Bench:
    """One run over one stage."""

    def __init__(self, stage: Stage, *, count: int, lifted: bool, stale: bool, idle: float) -> None:
        self._stage = stage
        self._count = count
        self._lifted = lifted
        self._stale = stale
        self._idle = idle
        self._patience = 60.0 + count * 1.0
        self._peak = 0.0

    def prepare(self) -> None:
        """A large cluster, and the operator connected to it."""
        simulator = self._stage.simulator
        for node in ("pve1", "pve2", "pve3"):
            simulator.do("set_capacity", node=node, cpus=1024, memory_gib=1 << 14)
        simulator.do("resize_storage", sid="local-lvm", size_gib=1e6)
        objects = self._stage.example("credentials-secret.yaml") + self._stage.example("cluster-lab.yaml")
        for raw in objects:
            if raw["kind"] == "ProxmoxCluster":
                raw["spec"]["vmidRange"] = {"start": 10000, "end": 99999}
                if self._lifted:
                    raw["spec"]["limits"] = LIFTED
        self._stage.kubectl_apply(objects, namespace=SYSTEM)
        self._stage.start_operator()
        deadline = time.monotonic() + 30
        while not is_ready(self._stage.kube.get(f"{CLUSTERS}/lab") or {"metadata": {"generation": 0}}):
            if time.monotonic() > deadline:
                raise StageError("Expected within 30 s: ProxmoxCluster lab Ready")
            time.sleep(0.1)
        self._watcher = Watcher(self._stage.cluster, vms(NAMESPACE))

    def create(self) -> Iterator[Figure]:
        meter, started = Meter(self._stage), time.monotonic()
        with ThreadPoolExecutor(APPLYING) as pool:
            list(pool.map(self._apply, range(self._count)))
        applied = time.monotonic() - started
        ended = self._watcher.await_(
            lambda: self._watcher.ready() == self._count,
            seconds=self._patience,
            what=f"{self._count} VMs Ready",
        )
        costs, rate = meter.read(seconds=ended - started), self._count / (ended - started)
        running = [vm for vm in self._stage.simulator.world()["vms"] if vm["status"] == "running"]
        if len(running) != self._count:
            raise StageError(f"Expected {self._count} VMs running in Proxmox, found {len(running)}")
        yield told("create", "apply to Ready, all", f"{costs.seconds:.1f} s (applied in {applied:.1f} s)")
        yield at_least("create", "VMs/s", rate, 30 if self._lifted else 5)
        yield at_most("create", "Proxmox calls per VM", costs.calls / self._count, 10)
        yield told("create", "Proxmox polls of the cluster", str(costs.polls))
        yield at_most("create", "Kubernetes writes per VM", costs.writes / self._count, 6)
        yield self._cpu("create", costs)

    def idle(self) -> Iterator[Figure]:
        time.sleep(3)  # Events and the last looks of the creation are not idleness
        meter = Meter(self._stage)
        time.sleep(self._idle)
        costs = meter.read()
        yield at_most("idle", f"Kubernetes writes in {self._idle:.0f} s", costs.writes, 0)
        yield at_most("idle", "Proxmox requests/s", (costs.calls + costs.polls) / costs.seconds, 4)
        yield told("idle", "CPU of the operator", f"{costs.operator_cpu / costs.seconds:.1%} of a core")

    def drift(self) -> Iterator[Figure]:
        chosen = [vm["vmid"] for vm in self._stage.simulator.world()["vms"] if vm["status"] == "running"]
        chosen = chosen[: max(1, round(self._count * DRIFTED))]
        meter = Meter(self._stage)
        for vmid in chosen:
            self._stage.simulator.do("stop", vmid=vmid)
        stopped = time.monotonic()
        while not self._are_running(chosen):
            if time.monotonic() - stopped > self._patience:
                raise StageError(
                    f"Expected within {self._patience:.0f} s: {len(chosen)} stopped VMs running again"
                )
            time.sleep(0.2)
        corrected = time.monotonic() - stopped
        self._watcher.await_(
            lambda: self._watcher.ready() == self._count,
            seconds=30,
            what="all VMs Ready again after the drift",
        )
        costs = meter.read()
        yield at_most("drift", f"{len(chosen)} VMs started again, s", corrected, 20 if self._stale else 7)
        yield told("drift", "Proxmox calls per VM", f"{costs.calls / len(chosen):.1f}")
        yield told("drift", "Kubernetes writes per VM", f"{costs.writes / len(chosen):.1f}")

    def restart(self) -> Iterator[Figure]:
        self._note_memory()
        self._stage.simulator.calls()
        started = time.monotonic()
        operator = self._stage.start_operator()
        leading = time.monotonic()
        self._await_steady(operator)
        steady = time.monotonic() - leading
        calls = self._stage.simulator.calls()
        yield told("restart", "stopped, started, Lease taken", f"{leading - started:.1f} s")
        yield at_most("restart", "steady after taking the Lease, s", steady, 15)
        yield at_most("restart", "Proxmox writes", sum(call["mutating"] for call in calls), 0)
        yield told("restart", "Proxmox calls", str(len(calls)))

    def delete(self) -> Iterator[Figure]:
        meter, started = Meter(self._stage), time.monotonic()
        self._stage.kube.delete(vms(NAMESPACE))
        ended = self._watcher.await_(
            lambda: self._watcher.left() == 0, seconds=self._patience, what="no VM left"
        )
        costs = meter.read(seconds=ended - started)
        world = self._stage.simulator.world()
        left = [vm["vmid"] for vm in world["vms"] if vm["vmid"] not in TEMPLATES]
        leaked = [volume["name"] for volume in world["volumes"] if volume["vmid"] not in TEMPLATES]
        if left or leaked:
            raise StageError(f"Expected nothing left in Proxmox; VMs: {left[:10]}, volumes: {leaked[:10]}")
        yield told("delete", "delete to gone, all", f"{costs.seconds:.1f} s")
        yield told("delete", "VMs/s", f"{self._count / costs.seconds:.1f}")
        yield told("delete", "Proxmox calls per VM", f"{costs.calls / self._count:.1f}")
        yield told("delete", "Kubernetes writes per VM", f"{costs.writes / self._count:.1f}")
        yield self._cpu("delete", costs)

    def memory(self) -> Iterator[Figure]:
        self._note_memory()
        self._watcher.stop()
        yield at_most(
            "all", "highest memory of the operator, MiB", self._peak, 200 if self._count <= 1000 else 350
        )

    def _apply(self, number: int) -> None:
        template = TEMPLATES[number % len(TEMPLATES)]
        self._stage.kube.apply(vms(NAMESPACE), _manifest(number, template))

    def _are_running(self, vmids: list[int]) -> bool:
        running = {vm["vmid"] for vm in self._stage.simulator.world()["vms"] if vm["status"] == "running"}
        return running.issuperset(vmids)

    def _await_steady(self, operator: Operator) -> None:
        """Every VM looked at, nothing in the queue or being worked on, seen twice in a row."""
        deadline, calm = time.monotonic() + self._patience, 0
        while calm < 2:
            if time.monotonic() > deadline:
                raise StageError(f"Expected within {self._patience:.0f} s: the restarted operator at rest")
            looked = operator.metric("reconcile_seconds_count", kind="ProxmoxVM", result="waiting")
            busy = operator.metric("queue_depth") + operator.metric("queue_running")
            calm = calm + 1 if looked >= self._count and not busy else 0
            time.sleep(0.1)

    def _note_memory(self) -> None:
        if self._stage.operator is not None:
            self._peak = max(self._peak, memory_mib(self._stage.operator.pid))

    def _cpu(self, phase: str, costs: Costs) -> Figure:
        """Together they share the machine's cores, so this is what bounds VMs/s."""
        spent = (costs.operator_cpu, costs.simulator_cpu, costs.kubernetes_cpu)
        each = " / ".join(f"{seconds * 1000 / self._count:.0f}" for seconds in spent)
        return told(phase, "CPU ms per VM: operator / simulator / Kubernetes", each)


def _manifest(number: int, template: int) -> Object:
    return {
        "apiVersion": "proxmox-operator.io/v1alpha1",
        "kind": "ProxmoxVM",
        "metadata": {"name": f"vm-{number:05}", "namespace": NAMESPACE},
        "spec": {
            "source": {"clone": {"vmid": template, "full": True}},
            "cpu": {"cores": 2},
            "memory": {"size": "1Gi"},
            "bootDisk": {"size": "10Gi"},
            "networks": [{"name": "net0", "ipv4": {"address": "dhcp"}}],
        },
    }
