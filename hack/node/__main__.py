"""`python -m node build` makes sure of all that a node needs, `up` runs one until Ctrl-C.

Exit status 3 says that this machine cannot be a node, until a person gives it what the message names: `make test`
leaves its tests out then, in CI as well: not every CI gives what a node takes of its kernel.
"""

import argparse
import signal
import sys
from types import FrameType

from controlplane import ControlPlaneError
from debian import HostError, report
from gotools import GoBuildError
from gotools import locate as locate_tool
from image import NAME, image
from node.host import make_fit
from node.launch import Node, locate_programs
from node.pause import pause_image
from proxmox_operator import __version__


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m node", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="install, build and fetch what is missing (minutes, once)")
    commands.add_parser("up", help="run a node that has the operator's image, and print how to reach it")
    arguments = parser.parse_args()
    try:
        build()
        if arguments.command == "up":
            run()
    except HostError as error:
        return report("node", error, ci_may_lack_it=True)
    except (ControlPlaneError, GoBuildError) as error:
        print(f"node: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def build() -> None:
    make_fit()
    locate_programs()
    for tool in ("helm", "argocd"):
        locate_tool(tool)
    pause_image()
    image()


def run() -> None:
    signal.signal(signal.SIGTERM, _stop)
    with Node() as node:
        node.load(image())
        print(f"export KUBECONFIG={node.kubeconfig}", flush=True)
        print(f"Its image is {NAME}:{__version__}. Ctrl-C stops everything.", file=sys.stderr, flush=True)
        while True:
            signal.pause()


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
