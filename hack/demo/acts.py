"""The story that is told. Every act says what it is about to do, does it, and checks that it came about.

Each returns what the summary says of it; where something does not come about it raises StageError.
"""

import time
from pathlib import Path

from demo.kube import is_ready, ready, vms
from demo.looking import NAMESPACE, Told, await_that, describe, events, look, since, status_of, vmid_of
from demo.processes import StageError
from demo.screen import Screen
from demo.stage import SYSTEM, Stage

TENANT = "tenant-a"
SIMULATOR = (
    "--nodes=3",
    "--task-seconds=3",
    "--storage=ceph:rbd:4000",
    "--templates=pve1:9000:local-lvm,pve1:9001:ceph",
)
CLUSTERS = ("credentials-secret.yaml", "cluster-lab.yaml", "cluster-tenants.yaml")
VMS = ("vm-minimal.yaml", "vm-everything.yaml", "vm-static-addresses.yaml", "vm-full-clone.yaml")
REFUSED = Path(__file__).resolve().parent / "refused"
READY_SECONDS = 45.0
DRIFT_SECONDS = 30.0
DELETE_SECONDS = 30.0


def clusters(stage: Stage, screen: Screen) -> Told:
    screen.act(
        "The operator is told of a Proxmox cluster",
        "Two ProxmoxClusters lead to the same Proxmox: `lab` is open to every namespace, `tenants` grants little. "
        "(Endpoints, CA and token in the files are replaced by those of the simulator.)",
    )
    started = time.monotonic()
    stage.simulator.do("add_pool", name="tenants")
    for name in CLUSTERS:
        screen.command(f"kubectl apply -f manifests/examples/{name}")
        stage.kubectl_apply(stage.example(name), namespace=SYSTEM)

    def usable() -> bool:
        listed = stage.cluster.kubectl("get", "pvec", "-o", "json", check=True).stdout
        return listed.count('"reason": "Ready"') >= len(CLUSTERS) - 1

    await_that(
        stage, usable, 20, "both ProxmoxClusters Ready", lambda: stage.cluster.kubectl("get", "pvec").stdout
    )
    screen.command("kubectl get pvec")
    for line in stage.cluster.kubectl("get", "pvec", check=True).stdout.splitlines():
        screen.raw(line)
    return "ProxmoxClusters connected, pinned and checked", "2 Ready", since(started)


def creation(stage: Stage, screen: Screen) -> Told:
    screen.act(
        "Manifests become VMs",
        "Four VMs at once, from the templates made by hand: the least there is, one with every option, one with fixed "
        "addresses, and a full clone on shared storage. Each is cloned, configured, its disks grown, and started.",
    )
    for name in VMS:
        screen.command(f"kubectl apply -n {NAMESPACE} -f manifests/examples/{name}")
        stage.kubectl_apply(stage.example(name), namespace=NAMESPACE)
    seconds = screen.watch(
        lambda: look(stage),
        lambda seen: len(seen) == len(VMS) and all(map(is_ready, seen)),
        seconds=READY_SECONDS,
    )
    running = [vm for vm in stage.simulator.world()["vms"] if vm["status"] == "running"]
    if len(running) != len(VMS):
        raise StageError(f"Expected {len(VMS)} VMs to run in Proxmox, found {len(running)}")
    screen.done(f"All Ready, and Proxmox has exactly {len(VMS)} VMs running besides its templates.")
    return "Manifests became running VMs", f"{len(VMS)} Ready", f"{seconds:.1f} s"


def drift(stage: Stage, screen: Screen) -> Told:
    vmid = vmid_of(stage, "web")
    screen.act(
        "Somebody stops a VM behind the operator's back",
        f"VM {vmid} (`web`) is switched off, as by a click in the Proxmox GUI. Its manifest still says Running.",
    )
    stage.simulator.do("stop", vmid=vmid)
    started = time.monotonic()
    screen.say(f"Proxmox: VM {vmid} is {status_of(stage, vmid)}. The operator looks every 5 s ...")
    await_that(
        stage,
        lambda: status_of(stage, vmid) == "running",
        DRIFT_SECONDS,
        f"VM {vmid} started again",
        lambda: describe(stage, "web"),
    )
    seconds = since(started)
    screen.done(f"Proxmox: VM {vmid} is running again, {seconds} after it was stopped.")
    await_that(
        stage,
        lambda: bool(events(stage, "web", "PowerDriftCorrected")),
        10,
        "an Event PowerDriftCorrected",
        lambda: describe(stage, "web"),
    )
    screen.say("And whoever wonders why finds it among the VM's Events:")
    screen.command(f"kubectl events -n {NAMESPACE} --for pvm/web")
    for event in events(stage, "web", "PowerDriftCorrected"):
        screen.quote(f"{event['type']}  {event['reason']}  {event['note']}")
    return "A VM stopped by hand was started again", "corrected, with an Event", seconds


def refusals(stage: Stage, screen: Screen) -> Told:
    screen.act(
        "What must not be is refused, and the refusal says how to mend it",
        "A manifest with three mistakes does not get past the API server:",
    )
    started = time.monotonic()
    screen.command(f"kubectl apply -n {NAMESPACE} -f hack/demo/refused/mistakes.yaml")
    answer = stage.cluster.kubectl("apply", "-n", NAMESPACE, "-f", str(REFUSED / "mistakes.yaml"))
    if answer.returncode == 0:
        raise StageError("Expected hack/demo/refused/mistakes.yaml to be refused; the API server took it")
    for line in filter(None, answer.stderr.splitlines()):
        screen.quote(line)
    screen.say(
        "A well-formed one from a tenant who asks for more than the ProxmoxCluster grants gets a condition:"
    )
    screen.command(f"kubectl apply -n {TENANT} -f hack/demo/refused/greedy.yaml")
    applied = stage.cluster.kubectl("apply", "-n", TENANT, "-f", str(REFUSED / "greedy.yaml"), check=True)
    screen.raw(applied.stdout.strip())
    path = f"{vms(TENANT)}/greedy"

    def denied() -> bool:
        return ready(stage.kube.get(path) or {}).get("reason") == "AccessDenied"

    await_that(
        stage, denied, 15, "condition Ready with reason AccessDenied", lambda: str(stage.kube.get(path))
    )
    condition = ready(stage.kube.get(path) or {})
    screen.quote(f"Ready: False  {condition['reason']}")
    for sentence in condition["message"].split("; "):
        screen.quote(f"  {sentence}")
    made = [vm["vmid"] for vm in stage.simulator.world()["vms"] if vm["vmid"] >= 15000]
    if made:
        raise StageError(f"Expected no VM for the refused manifest, Proxmox has {made}")
    stage.kube.delete(path)
    return "Wrong and greedy manifests were refused", "2 refused, no VM made", since(started)


def deletion(stage: Stage, screen: Screen) -> Told:
    web, db = vmid_of(stage, "web"), vmid_of(stage, "db")
    screen.act(
        "Two objects are deleted",
        "`web` goes with its VM and disks. `db` has `deletionPolicy: Retain`: its VM stays, and is nobody's again.",
    )
    started = time.monotonic()
    screen.command(f"kubectl delete pvm -n {NAMESPACE} web db")
    stage.cluster.kubectl("delete", "pvm", "-n", NAMESPACE, "web", "db", "--wait=false", check=True)
    screen.watch(
        lambda: look(stage),
        lambda seen: not {"web", "db"} & {raw["metadata"]["name"] for raw in seen},
        seconds=DELETE_SECONDS,
    )
    seconds = since(started)
    world = stage.simulator.world()
    left = [volume["name"] for volume in world["volumes"] if volume["vmid"] == web]
    if stage.simulator.vm(web) is not None or left:
        raise StageError(f"Expected VM {web} and its disks gone from Proxmox; volumes left: {left}")
    if status_of(stage, db) != "running":
        raise StageError(f"Expected VM {db} to run on in Proxmox; it is {status_of(stage, db)}")
    screen.done(f"Proxmox: VM {web} and its disks are gone; VM {db} still runs.")
    return "Objects were deleted", "1 VM destroyed, 1 kept (Retain)", seconds
