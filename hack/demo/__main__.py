"""`python -m demo [--keep | --guests qemu]`: see the operator work, on this machine alone.

Exit code 0 when all of it came about.
"""

import argparse
import signal
import sys
import time
from collections import Counter

from demo import acts, images, life, real
from demo.acts import SIMULATOR, TENANT
from demo.kube import vms
from demo.looking import NAMESPACE, Told
from demo.screen import Screen
from demo.stage import FAILURES, Stage, orderly, set_up

INTERRUPTED = 130


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything up at the end, until Ctrl-C")
    parser.add_argument(
        "--guests",
        choices=("none", "qemu"),
        default="none",
        help="qemu: a shorter story, with a VM that boots and lets you in, until Ctrl-C",
    )
    arguments = parser.parse_args()
    screen = Screen()
    kept = False
    try:
        with orderly():
            _introduce(screen)
            started = time.monotonic()
            simulator = real.SIMULATOR if arguments.guests == "qemu" else SIMULATOR
            with set_up(simulator=simulator, namespaces=(NAMESPACE, TENANT)) as stage:
                _prepare(stage, screen, started)
                if arguments.guests == "qemu":
                    real.play(stage, screen)
                    kept = True
                    real.stay()
                told = [acts.clusters(stage, screen)]
                images.ask(stage, screen)
                told += [act(stage, screen) for act in (acts.creation, images.templates, acts.drift)]
                told += [act(stage, screen) for act in (life.change, life.move, life.adoption)]
                told += [act(stage, screen) for act in (acts.refusals, acts.deletion)]
                _summary(stage, screen, told, time.monotonic() - started)
                if arguments.keep:
                    kept = True
                    _keep(stage, screen)
    except FAILURES as error:
        screen.failure(str(error), getattr(error, "__notes__", ()))
        return 1
    except KeyboardInterrupt:
        screen.raw("\nStopped; nothing is left running.")
        return 0 if kept else INTERRUPTED
    return 0


def _introduce(screen: Screen) -> None:
    screen.say(
        "A tour of the operator in about a minute. Nothing leaves this machine, nothing is left behind."
    )
    screen.act(
        "The stage",
        "Kubernetes: a real API server and etcd of our own (no nodes are needed: VMs run on Proxmox).",
    )
    screen.say(
        "Proxmox: a simulator of a cluster of three nodes with two templates, 9000 and 9001, behind its HTTPS API."
    )
    screen.say(
        "The operator: a process of its own, as it would be in a cluster, with its watch and its leader election."
    )


def _prepare(stage: Stage, screen: Screen, started: float) -> None:
    stage.kube.apply(
        "/api/v1/namespaces",
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": TENANT, "labels": {"proxmox-operator.io/tenant": "true"}},
        },
    )
    stage.start_operator()
    screen.done(f"All up in {time.monotonic() - started:.1f} s.")


def _summary(stage: Stage, screen: Screen, told: list[Told], seconds: float) -> None:
    writes: Counter[str] = Counter()
    if stage.operator is not None:
        for labels, value in stage.operator.series("kube_writes_total"):
            writes[labels["resource"].partition(".")[0]] += int(value)
    calls = stage.simulator.calls()
    mutating = sum(call["mutating"] for call in calls)
    screen.table("What you have seen", told)
    screen.say(
        f"In all {seconds:.0f} s, {len(calls)} calls to Proxmox ({mutating} of them changed something) and "
        f"{writes['proxmoxvms'] + writes['vmtemplates'] + writes['proxmoxclusters']} writes to Kubernetes objects, "
        f"besides {writes['events']} Events and {writes['leases']} renewals of the Lease."
    )


def _keep(stage: Stage, screen: Screen) -> None:
    screen.act("Yours to play with", "In another terminal:")
    screen.raw(f"export KUBECONFIG={stage.cluster.kubeconfig}")
    screen.raw(
        "kubectl get pvm -A --watch        # no kubectl? `make demo` has then built one, in ~/.cache/proxmox-operator"
    )
    screen.say("The simulated Proxmox, and the door for what people do behind the operator's back:")
    screen.raw(f"Proxmox API   {stage.simulator.urls[0]}/api2/json")
    screen.raw(f"Control       {stage.simulator.control_url}")
    vmid = next((raw["status"]["vmid"] for raw in stage.kube.items(vms(NAMESPACE))), 10000)
    screen.raw(f"  curl -X POST {stage.simulator.control_url}/do/stop -d '{{\"vmid\": {vmid}}}'")
    screen.raw(f"  curl {stage.simulator.control_url}/world")
    screen.raw(f"Logs          {stage.logs}")
    screen.say("Ctrl-C here stops all of it and forgets everything.")
    sys.stdout.flush()
    while True:
        signal.pause()


if __name__ == "__main__":
    sys.exit(main())
