"""`python -m guest build` makes sure of the guest image and prints its path.

Exit status 3 says that this machine cannot have real guests, until a person gives it what the message names: `make
test` leaves their tests out then. In CI (the environment variable CI is set) that is a failure like any other.
"""

import argparse
import os
import sys

from guest.build import image
from guest.host import RUNNING, GuestImageError, NotHereError, ensure

NOT_HERE = 3


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m guest", description=__doc__)
    parser.add_subparsers(dest="command", required=True).add_parser(
        "build", help="install what running guests needs, and build the image if it is not in the cache"
    )
    parser.parse_args()
    try:
        ensure(RUNNING)
        print(image())
    except GuestImageError as error:
        print(f"guest: {error}", file=sys.stderr)
        return NOT_HERE if isinstance(error, NotHereError) and not os.environ.get("CI") else 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
