"""`python -m guest build` makes sure of the guest image and prints its path.

Exit status 3 says that this machine cannot have real guests, until a person gives it what the message names: `make
test` leaves their tests out then. In CI (the environment variable CI is set) that is a failure like any other.
"""

import argparse
import sys

from debian import HostError, ensure, report
from guest.build import image
from guest.host import RUNNING, WHAT


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m guest", description=__doc__)
    parser.add_subparsers(dest="command", required=True).add_parser(
        "build", help="install what running guests needs, and build the image if it is not in the cache"
    )
    parser.parse_args()
    try:
        ensure(RUNNING, WHAT)
        print(image())
    except HostError as error:
        return report("guest", error)
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
