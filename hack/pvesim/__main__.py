"""`python -m pvesim`: a simulated cluster that runs until it is stopped. State lives as long as the
process."""

import argparse
import json
import os
import signal
import tempfile
import threading
from pathlib import Path
from types import FrameType

from .control import ControlDoor
from .sim import PveSim

FIRST_FOREIGN_VMID = 20_000


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="pvesim", description=__doc__)
    parser.add_argument("--nodes", type=int, default=3, help="number of nodes: pve1, pve2, ... (default 3)")
    parser.add_argument("--vms", type=int, default=0, help="foreign VMs to begin with")
    parser.add_argument(
        "--templates",
        default="pve1:9000:local-lvm",
        metavar="NODE:VMID:STORAGE,...",
        help="templates to begin with, empty for none (default %(default)s)",
    )
    parser.add_argument(
        "--storage",
        action="append",
        default=[],
        metavar="ID:TYPE:GIB",
        help="a further storage, e.g. ceph:rbd:4000; local and local-lvm are always there",
    )
    parser.add_argument("--task-seconds", type=float, default=2.0, help="seconds of a full clone (default 2)")
    parser.add_argument(
        "--time-scale", type=float, default=1.0, help="real seconds per Proxmox second (default 1)"
    )
    parser.add_argument(
        "--boot-seconds", type=float, default=1.0, help="seconds until a guest's agent answers"
    )
    parser.add_argument(
        "--staleness", default="0", help="seconds of the statistics loop; 'real' is 10 (default 0)"
    )
    parser.add_argument(
        "--guests",
        choices=("none", "qemu"),
        default="none",
        help="what is in a VM: nothing, or a real guest that boots (default none)",
    )
    parser.add_argument("--pve", type=int, choices=(8, 9), default=9, help="Proxmox VE major version")
    parser.add_argument(
        "--port-base", type=int, default=0, help="port of pve1, the others follow; 0: free ports"
    )
    parser.add_argument("--control-port", type=int, default=0, help="port of the control door; 0: a free one")
    parser.add_argument("--cluster", default="pvesim", help="cluster name; it decides the CA")
    parser.add_argument("--auth-delay", type=float, default=3.0, help="seconds a 401 is late (default 3)")
    parser.add_argument("--ca-file", type=Path, help="where to write the CA (default: a temporary file)")
    parser.add_argument("--json", action="store_true", help="print one JSON line instead of text")
    parser.add_argument("--die-with-parent", action="store_true", help="end when the parent process does")
    return parser.parse_args(argv)


def populate(sim: PveSim, options: argparse.Namespace) -> None:
    """Storages, templates and VMs of the command line."""
    for text in options.storage:
        sid, kind, size = text.split(":")
        sim.add_storage(sid, kind, size_gib=float(size))
    for text in filter(None, options.templates.split(",")):
        node, vmid, storage = text.split(":")
        sim.add_template(vmid=int(vmid), node=node, storage=storage, name=f"debian-12-{node}")
    nodes = list(sim.endpoints)
    for number in range(options.vms):
        sim.add_vm(FIRST_FOREIGN_VMID + number, node=nodes[number % len(nodes)], running=number % 2 == 0)


def main(argv: list[str] | None = None) -> int:
    """Run until SIGINT, SIGTERM or - if asked for - the parent's end."""
    options = parse(argv)
    parent = os.getppid()
    ended = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        ended.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    sim = PveSim(
        nodes=options.nodes,
        task_seconds=options.task_seconds,
        time_scale=options.time_scale,
        pve=options.pve,
        staleness=options.staleness if options.staleness == "real" else float(options.staleness),
        cluster=options.cluster,
        port_base=options.port_base,
        auth_delay=options.auth_delay,
        boot_seconds=options.boot_seconds,
        guests=options.guests,
    )
    with tempfile.TemporaryDirectory(prefix="pvesim-") as directory, sim:
        door = ControlDoor(sim)
        door.open(options.control_port)
        populate(sim, options)
        ca_file = options.ca_file or Path(directory) / "pve-root-ca.pem"
        ca_file.write_text(sim.ca_pem)
        facts = {
            "urls": sim.urls,
            "token_id": sim.token_id,
            "token_secret": sim.token_secret,
            "user": sim.user,
            "password": sim.password,
            "ca_file": str(ca_file),
            "fingerprint": sim.fingerprint,
            "control_url": door.url,
        }
        text = (
            json.dumps(facts)
            if options.json
            else "\n".join(f"{key:14}{value}" for key, value in facts.items())
        )
        print(text, flush=True)
        while not ended.wait(0.5):
            if options.die_with_parent and os.getppid() != parent:
                break
        door.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
