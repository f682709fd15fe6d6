"""`python -m bench --vms N`: what N VMs cost. Exit code 0 when the run ended, also where a budget was missed."""

import argparse
import sys
from collections.abc import Iterator

from rich.console import Console

from bench.phases import NAMESPACE, SIMULATOR, Bench
from bench.report import Figure, render
from demo.stage import FAILURES, orderly, set_up

INTERRUPTED = 130
PLAIN_WIDTH = 110


def main() -> int:
    arguments = _parse()
    console = Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH)
    options = (*SIMULATOR, f"--task-seconds={arguments.task_seconds}", f"--staleness={arguments.staleness}")
    title = (
        f"{arguments.vms} VMs, limits {'lifted' if arguments.lifted else 'at their defaults'}, "
        f"tasks of {arguments.task_seconds:g} s, staleness {arguments.staleness}"
    )
    try:
        with orderly(), set_up(simulator=options, namespaces=(NAMESPACE,)) as stage:
            bench = Bench(
                stage,
                count=arguments.vms,
                lifted=arguments.lifted,
                stale=arguments.staleness == "real",
                idle=arguments.idle,
            )
            bench.prepare()
            if stage.operator is not None:
                console.print(
                    f"operator: process {stage.operator.pid}; simulator: process {stage.simulator.pid}"
                )
            render(console, title, list(_run(bench, console)))
    except FAILURES as error:
        for line in (str(error), *getattr(error, "__notes__", ())):
            print(line, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _run(bench: Bench, console: Console) -> Iterator[Figure]:
    for phase in (bench.create, bench.idle, bench.drift, bench.restart, bench.delete, bench.memory):
        console.print(f"[dim]{phase.__name__} ...[/]")
        yield from phase()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--vms", type=int, default=100, metavar="N", help="how many (default 100; 1000 takes minutes)"
    )
    parser.add_argument("--lifted", action="store_true", help="with the limits of the ProxmoxCluster lifted")
    parser.add_argument(
        "--idle", type=float, default=60, metavar="SECONDS", help="length of the idle minute (default 60)"
    )
    parser.add_argument(
        "--task-seconds",
        type=float,
        default=0,
        metavar="SECONDS",
        help="how long a full clone takes (default 0: instant)",
    )
    parser.add_argument(
        "--staleness",
        choices=("0", "real"),
        default="0",
        help="'real': Proxmox tells of changes as late as it does",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
