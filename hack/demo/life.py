"""The later life of a VM: it is changed, moved, and one that was made by hand is taken over."""

import json
import time

from demo.kube import condition, is_ready, vms
from demo.looking import NAMESPACE, Told, await_that, describe, events, since, status_of, vmid_of
from demo.processes import StageError
from demo.screen import Screen
from demo.stage import Stage

BY_HAND = 104
SECONDS = 40.0


def change(stage: Stage, screen: Screen) -> Told:
    vmid = vmid_of(stage, "web")
    screen.act(
        "A running VM gets more memory",
        f"`web` (VM {vmid}) is to have 4Gi instead of 2Gi. That needs a cold boot, and nobody is rebooted unasked.",
    )
    started = time.monotonic()
    _patch(stage, screen, "web", {"spec": {"memory": {"size": "4Gi"}}})
    await_that(
        stage,
        lambda: _condition(stage, "web", "RestartRequired").get("status") == "True",
        SECONDS,
        "condition RestartRequired",
        lambda: describe(stage, "web"),
    )
    screen.quote(f"RestartRequired: True  {_condition(stage, 'web', 'RestartRequired')['message']}")
    screen.say("When it suits, it is asked for: the guest is shut down, and started with what was waiting.")
    screen.command(f"kubectl annotate -n {NAMESPACE} pvm web proxmox-operator.io/restart=now")
    _annotate(stage, "web", "proxmox-operator.io/restart=now")
    await_that(
        stage,
        lambda: bool(events(stage, "web", "Restarted")),
        SECONDS,
        "an Event Restarted",
        lambda: describe(stage, "web"),
    )
    _await_ready(stage, "web")
    vm = stage.simulator.vm(vmid) or {}
    if (vm["status"], dict(vm["config"])["memory"], vm["pending"]) != ("running", "4096", []):
        raise StageError(f"Expected VM {vmid} to run with 4096 MiB and nothing pending, found {vm}")
    screen.done(f"VM {vmid} runs with 4 GiB; it was restarted once, when it was asked for.")
    return "A change that needs a cold boot waited for one", "restarted once, when asked", since(started)


def move(stage: Stage, screen: Screen) -> Told:
    vmid = vmid_of(stage, "db")
    node = _node(stage, vmid)
    target = next(name for name in ("pve2", "pve3", "pve1") if name != node)
    screen.act(
        "A VM is moved while it runs",
        f"`db` (VM {vmid}) is on {node}, its disks on shared storage. It is to go to {target}.",
    )
    started = time.monotonic()
    screen.command(f"kubectl annotate -n {NAMESPACE} pvm db proxmox-operator.io/move-to={target}")
    _annotate(stage, "db", f"proxmox-operator.io/move-to={target}")
    await_that(
        stage,
        lambda: _node(stage, vmid) == target,
        SECONDS,
        f"VM {vmid} on {target}",
        lambda: describe(stage, "db"),
    )
    _await_ready(stage, "db")
    if status_of(stage, vmid) != "running":
        raise StageError(f"Expected VM {vmid} to have run on; it is {status_of(stage, vmid)}")
    screen.done(f"Proxmox: VM {vmid} runs on {target}, and ran all the way.")
    return "A VM was moved while it ran", f"{node} -> {target}", since(started)


def adoption(stage: Stage, screen: Screen) -> Told:
    screen.act(
        "A VM that was made by hand is taken over",
        f"VM {BY_HAND} has been running for years. The manifest looks first (Observe), then takes it over as it is.",
    )
    by_hand = {
        "name": "mailserver",
        "cores": 2,
        "memory": "4096",
        "net0": "virtio,bridge=vmbr0,tag=20,firewall=1",
        "scsi1": "local-lvm:100,discard=on",
        "description": "the old mail server",
    }
    stage.simulator.do("add_vm", vmid=BY_HAND, running=True, **by_hand)
    before = dict((stage.simulator.vm(BY_HAND) or {})["config"])
    started = time.monotonic()
    screen.command(f"kubectl apply -n {NAMESPACE} -f manifests/examples/vm-adopt.yaml")
    stage.kubectl_apply(stage.example("vm-adopt.yaml"), namespace=NAMESPACE)
    [name] = [raw["metadata"]["name"] for raw in stage.example("vm-adopt.yaml")]
    _await_ready(stage, name)
    screen.say(
        "Ready: the plan is empty, so the manifest says what the VM is. Nothing was written. Now it is taken over:"
    )
    _patch(stage, screen, name, {"spec": {"management": "Manage"}})
    await_that(
        stage,
        lambda: bool(events(stage, name, "Adopted")),
        SECONDS,
        f"an Event Adopted about {name}",
        lambda: describe(stage, name),
    )
    _await_ready(stage, name)
    vm = stage.simulator.vm(BY_HAND) or {}
    changed = sorted(key for key, value in dict(vm["config"]).items() if before.get(key) != value)
    if changed != ["description"] or vm["status"] != "running":
        raise StageError(f"Expected only the description of VM {BY_HAND} to be changed, found {changed}")
    screen.done(
        f"VM {BY_HAND} is `{name}` now. It ran on, and only its description was changed: it holds our mark."
    )
    return "A VM made by hand was taken over", "nothing changed but its mark", since(started)


def _await_ready(stage: Stage, name: str) -> None:
    await_that(
        stage,
        lambda: is_ready(stage.kube.get(f"{vms(NAMESPACE)}/{name}") or {"metadata": {"generation": 0}}),
        SECONDS,
        f"{name} Ready",
        lambda: describe(stage, name),
    )


def _patch(stage: Stage, screen: Screen, name: str, patch: dict[str, object]) -> None:
    text = json.dumps(patch)
    screen.command(f"kubectl patch -n {NAMESPACE} pvm {name} --type merge -p '{text}'")
    stage.cluster.kubectl("patch", "-n", NAMESPACE, "pvm", name, "--type", "merge", "-p", text, check=True)


def _annotate(stage: Stage, name: str, annotation: str) -> None:
    stage.cluster.kubectl("annotate", "-n", NAMESPACE, "--overwrite", "pvm", name, annotation, check=True)


def _condition(stage: Stage, name: str, kind: str) -> dict[str, str]:
    return condition(stage.kube.get(f"{vms(NAMESPACE)}/{name}") or {}, kind)


def _node(stage: Stage, vmid: int) -> str:
    return str((stage.simulator.vm(vmid) or {"node": "gone"})["node"])
