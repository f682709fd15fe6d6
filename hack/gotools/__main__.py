"""`python -m gotools NAME...` makes sure of the named programs and prints where they are; `monitoring` are CRDs."""

import sys

from gotools import GoBuildError, locate, monitoring_crds


def main() -> int:
    try:
        for name in sys.argv[1:]:
            print(monitoring_crds() if name == "monitoring" else locate(name))
    except GoBuildError as error:
        print(f"gotools: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
