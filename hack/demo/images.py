"""An image becomes a Proxmox template on every node, while other acts go on, and a VM is made from it."""

import time
from collections.abc import Callable

from demo.kube import TEMPLATES, Object, condition, is_ready, vms
from demo.looking import NAMESPACE, Told, await_that, describe, since, vmid_of
from demo.processes import StageError
from demo.screen import Screen
from demo.stage import SYSTEM, Stage

TEMPLATE = "debian-13"
VM = "from-template"
SECONDS = 45.0


def ask(stage: Stage, screen: Screen) -> None:
    screen.act(
        "A template is made from an image",
        "A VMTemplate names an image and its checksum. Each node downloads it, and Proxmox refuses another file. "
        "(URL and checksum in the file are replaced by those of a small image on this machine.)",
    )
    screen.command("kubectl apply -f manifests/examples/template-debian.yaml")
    stage.kubectl_apply(stage.example("template-debian.yaml"), namespace=SYSTEM)
    _await(stage, lambda: bool(condition(_template(stage), "Ready")), f"VMTemplate {TEMPLATE} taken up")
    _show(stage, screen)
    screen.say("That takes its time, and nobody waits for it here.")


def templates(stage: Stage, screen: Screen) -> Told:
    screen.act(
        "The template is there, on every node",
        "VMs can be made from it as soon as the first copy is ready; the other nodes follow.",
    )
    _await(stage, lambda: is_ready(_template(stage)), f"VMTemplate {TEMPLATE} Ready")
    started = time.monotonic()
    screen.say(
        "A VM names the VMTemplate. It goes to whichever node suits it best, and is cloned from the copy there:"
    )
    screen.command(f"kubectl apply -n {NAMESPACE} -f manifests/examples/vm-from-template.yaml")
    stage.kubectl_apply(stage.example("vm-from-template.yaml"), namespace=NAMESPACE)
    _await(stage, lambda: is_ready(_vm(stage)), f"{VM} Ready")
    template = _vm(stage)["status"]["template"]
    screen.done(
        f"VM {vmid_of(stage, VM)} (`{VM}`) runs on {_vm(stage)['status']['node']}, made from {template['name']}, "
        f"version {template['version']}."
    )
    _await(
        stage,
        lambda: condition(_template(stage), "Distributed").get("status") == "True",
        f"a copy of VMTemplate {TEMPLATE} on every node",
    )
    seconds = since(started)
    _show(stage, screen)
    copies = {copy["node"]: copy["vmid"] for copy in _template(stage)["status"]["copies"]}
    made = {vm["node"]: vm["vmid"] for vm in stage.simulator.world()["vms"] if vm["vmid"] in copies.values()}
    if made != copies:
        raise StageError(f"Expected the templates {copies} in Proxmox, found {made}")
    screen.done(f"Proxmox: {', '.join(f'template {copies[node]} on {node}' for node in sorted(copies))}.")
    return "An image became templates", f"{len(copies)} copies, and a VM from one", seconds


def _await(stage: Stage, so: Callable[[], bool], what: str) -> None:
    await_that(stage, so, SECONDS, what, lambda: f"{_described(stage)}\n{describe(stage, VM)}")


def _vm(stage: Stage) -> Object:
    return stage.kube.get(f"{vms(NAMESPACE)}/{VM}") or {"metadata": {"generation": 0}}


def _template(stage: Stage) -> Object:
    return stage.kube.get(f"{TEMPLATES}/{TEMPLATE}") or {"metadata": {"generation": 0}}


def _show(stage: Stage, screen: Screen) -> None:
    screen.command("kubectl get pvt")
    for line in stage.cluster.kubectl("get", "pvt", check=True).stdout.splitlines():
        screen.raw(line)


def _described(stage: Stage) -> str:
    return stage.cluster.kubectl("describe", "pvt", TEMPLATE).stdout
