"""What the acts look at, and how they wait for it. Not here: what they do."""

import time
from collections.abc import Callable
from typing import Any

from demo.kube import Object, vms
from demo.processes import StageError
from demo.stage import Stage

NAMESPACE = "shop"

Told = tuple[str, str, str]
"""What was shown, how it came out, and how long it took."""


def look(stage: Stage) -> list[Object]:
    alive(stage)
    return stage.kube.items(vms(NAMESPACE))


def alive(stage: Stage) -> None:
    stage.simulator.check()
    if stage.operator is not None:
        stage.operator.check()


def await_that(
    stage: Stage, so: Callable[[], bool], seconds: float, what: str, found: Callable[[], str]
) -> None:
    deadline = time.monotonic() + seconds
    while not so():
        alive(stage)
        if time.monotonic() > deadline:
            raise StageError(f"Expected within {seconds:.0f} s: {what}. Found instead:\n{found()}")
        time.sleep(0.1)


def events(stage: Stage, name: str, reason: str) -> list[dict[str, Any]]:
    listed = stage.kube.items(f"/apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events")
    return [event for event in listed if event["regarding"]["name"] == name and event["reason"] == reason]


def describe(stage: Stage, name: str) -> str:
    return stage.cluster.kubectl("describe", "pvm", "-n", NAMESPACE, name).stdout


def vmid_of(stage: Stage, name: str) -> int:
    return int((stage.kube.get(f"{vms(NAMESPACE)}/{name}") or {})["status"]["vmid"])


def status_of(stage: Stage, vmid: int) -> str:
    return str((stage.simulator.vm(vmid) or {"status": "gone"})["status"])


def since(started: float) -> str:
    return f"{time.monotonic() - started:.1f} s"
