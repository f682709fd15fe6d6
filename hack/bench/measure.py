"""Where the figures come from: the operator's metrics, the simulator's record of calls, the kernel's of processes."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from controlplane import Cluster, ControlPlane
from demo.kube import Kube, Object, is_ready
from demo.processes import Operator, StageError
from demo.stage import Stage

TICKS = os.sysconf("SC_CLK_TCK")
NOT_COUNTED = ("leases.", "events.")
"""Writes that are not the operator's work on an object: the Lease, and Events, which nobody waits for."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What a phase took. ``calls`` are about VMs and their tasks, ``polls`` about the cluster; CPU in core seconds.

    ``kubernetes_cpu`` is that of the API server and etcd, 0 where they are not ours.
    """

    seconds: float
    calls: int
    polls: int
    writes: int
    operator_cpu: float
    simulator_cpu: float
    kubernetes_cpu: float


class Meter:
    """Measures from its making to :meth:`read`, on one operator process."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._operator = _running(stage)
        stage.simulator.calls()
        self._writes = _writes(self._operator)
        self._kubernetes = (
            list(stage.cluster.pids.values()) if isinstance(stage.cluster, ControlPlane) else []
        )
        self._cpu = self._read_cpu()
        self._started = time.monotonic()

    def read(self, *, seconds: float | None = None) -> Costs:
        """``seconds`` where the phase ended before now."""
        elapsed = time.monotonic() - self._started
        spent = [now - before for now, before in zip(self._read_cpu(), self._cpu, strict=True)]
        calls = self._stage.simulator.calls()
        about_vms = sum("/qemu/" in call["path"] or "/tasks" in call["path"] for call in calls)
        return Costs(
            seconds=elapsed if seconds is None else seconds,
            calls=about_vms,
            polls=len(calls) - about_vms,
            writes=_writes(self._operator) - self._writes,
            operator_cpu=spent[0],
            simulator_cpu=spent[1],
            kubernetes_cpu=spent[2],
        )

    def _read_cpu(self) -> tuple[float, float, float]:
        kubernetes = sum(cpu_seconds(pid) for pid in self._kubernetes)
        return cpu_seconds(self._operator.pid), cpu_seconds(self._stage.simulator.pid), kubernetes


class Watcher:
    """Follows the ProxmoxVMs of a namespace by a watch of its own, so that waiting for N of them costs little."""

    def __init__(self, cluster: Cluster, path: str) -> None:
        self._kube = Kube(cluster)
        self._path = path
        self._changed = threading.Condition()
        self._objects: dict[str, bool] = {}
        self._stopping = False
        listed: Any = self._kube.get(path) or {}
        self._version: str = listed["metadata"]["resourceVersion"]
        threading.Thread(target=self._follow, name="watch", daemon=True).start()

    def ready(self) -> int:
        """How many are Ready."""
        return sum(self._objects.values())

    def left(self) -> int:
        """How many there are."""
        return len(self._objects)

    def await_(self, so: Callable[[], bool], *, seconds: float, what: str) -> float:
        """Return when it is so, with the time; raises StageError with the counts where it takes longer."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not so():
                if not self._changed.wait(deadline - time.monotonic()):
                    raise StageError(
                        f"Expected within {seconds:.0f} s: {what}; {self.left()} exist, {self.ready()} are Ready"
                    )
        return time.monotonic()

    def stop(self) -> None:
        """The thread ends with the API server's connection."""
        self._stopping = True

    def _follow(self) -> None:
        while not self._stopping:
            try:
                for event in self._kube.watch(self._path, self._version, seconds=3600):
                    self._take(event["type"], event["object"])
            except requests.RequestException:
                if not self._stopping:
                    time.sleep(0.2)

    def _take(self, kind: str, raw: Object) -> None:
        metadata = raw["metadata"]
        self._version = metadata["resourceVersion"]
        with self._changed:
            if kind == "DELETED":
                self._objects.pop(metadata["name"], None)
            else:
                self._objects[metadata["name"]] = is_ready(raw)
            self._changed.notify_all()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, all of its threads (proc(5), /proc/PID/stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_mib(pid: int, field: str = "VmHWM") -> float:
    """Resident memory of a process in MiB, the highest so far (proc(5), /proc/PID/status)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def _writes(operator: Operator) -> int:
    series = operator.series("kube_writes_total")
    return int(sum(value for labels, value in series if not labels["resource"].startswith(NOT_COUNTED)))


def _running(stage: Stage) -> Operator:
    if stage.operator is None:
        raise StageError("the operator is not running")
    return stage.operator
