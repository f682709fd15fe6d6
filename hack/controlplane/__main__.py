"""`python -m controlplane build` makes sure of the binaries, `up` runs a control plane until Ctrl-C."""

import argparse
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from controlplane.build import ControlPlaneError, locate
from controlplane.launch import ControlPlane


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m controlplane", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "build", help="build what is missing (minutes, once); with KUBECONFIG only kubectl is needed"
    )
    up = commands.add_parser("up", help="run a control plane and print how to reach it")
    up.add_argument(
        "--crds", type=Path, default=Path("crds"), help="folder of CRDs to install (default: crds)"
    )
    arguments = parser.parse_args()
    try:
        if arguments.command == "build":
            build()
        else:
            run(arguments.crds)
    except ControlPlaneError as error:
        print(f"controlplane: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def build() -> None:
    servers = [] if os.environ.get("KUBECONFIG") else ["etcd", "kube-apiserver", "kube-controller-manager"]
    locate(*servers, "kubectl")


def run(crds: Path) -> None:
    signal.signal(signal.SIGTERM, _stop)
    with ControlPlane(with_controller_manager=True) as cluster:
        cluster.install_crds(crds)
        print(f"export KUBECONFIG={cluster.kubeconfig}", flush=True)
        print("Ctrl-C stops it and forgets everything.", file=sys.stderr, flush=True)
        while True:
            signal.pause()


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
