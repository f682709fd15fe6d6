"""An image becomes a Proxmox template on every node, and a VM is made from it."""

import time

from demo.kube import TEMPLATES, Object, condition, is_ready, vms
from demo.looking import NAMESPACE, Told, await_that, describe, since, vmid_of
from demo.processes import StageError
from demo.screen import Screen
from demo.stage import SYSTEM, Stage

TEMPLATE = "debian-13"
VM = "from-template"
SECONDS = 45.0


def templates(stage: Stage, screen: Screen) -> Told:
    screen.act(
        "An image becomes a template on every node",
        "So far VMs were cloned from a template that somebody had made by hand. A VMTemplate names an image and its "
        "checksum; the nodes download it, and Proxmox refuses one that is another. (URL and checksum in the file are "
        "replaced by those of a small image on this machine.)",
    )
    started = time.monotonic()
    screen.command("kubectl apply -f manifests/examples/template-debian.yaml")
    stage.kubectl_apply(stage.example("template-debian.yaml"), namespace=SYSTEM)
    await_that(
        stage,
        lambda: condition(_template(stage), "Downloaded").get("status") == "True",
        SECONDS,
        f"the image of VMTemplate {TEMPLATE} downloaded",
        lambda: _described(stage),
    )
    _show(stage, screen)
    await_that(
        stage,
        lambda: (
            is_ready(_template(stage)) and condition(_template(stage), "Distributed").get("status") == "True"
        ),
        SECONDS,
        f"VMTemplate {TEMPLATE} Ready on every node",
        lambda: _described(stage),
    )
    seconds = since(started)
    _show(stage, screen)
    copies = {copy["node"]: copy["vmid"] for copy in _template(stage)["status"]["copies"]}
    made = {vm["node"]: vm["vmid"] for vm in stage.simulator.world()["vms"] if vm["vmid"] in copies.values()}
    if made != copies:
        raise StageError(f"Expected the templates {copies} in Proxmox, found {made}")
    screen.done(f"Proxmox: {', '.join(f'template {copies[node]} on {node}' for node in sorted(copies))}.")
    screen.say("A VM is made from it by name, on whichever node it fits best, from the copy there:")
    screen.command(f"kubectl apply -n {NAMESPACE} -f manifests/examples/vm-from-template.yaml")
    stage.kubectl_apply(stage.example("vm-from-template.yaml"), namespace=NAMESPACE)
    await_that(
        stage,
        lambda: is_ready(stage.kube.get(f"{vms(NAMESPACE)}/{VM}") or {"metadata": {"generation": 0}}),
        SECONDS,
        f"{VM} Ready",
        lambda: describe(stage, VM),
    )
    screen.done(f"VM {vmid_of(stage, VM)} (`{VM}`) runs.")
    return "An image became templates", f"{len(copies)} copies, and a VM from one", seconds


def _template(stage: Stage) -> Object:
    return stage.kube.get(f"{TEMPLATES}/{TEMPLATE}") or {"metadata": {"generation": 0}}


def _show(stage: Stage, screen: Screen) -> None:
    screen.command("kubectl get pvt")
    for line in stage.cluster.kubectl("get", "pvt", check=True).stdout.splitlines():
        screen.raw(line)


def _described(stage: Stage) -> str:
    return stage.cluster.kubectl("describe", "pvt", TEMPLATE).stdout
