"""`python -m guest build` makes sure of the guest image and prints its path."""

import argparse
import os
import sys

from guest.build import image
from guest.host import RUNNING, GuestImageError, ensure


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m guest", description=__doc__)
    build = parser.add_subparsers(dest="command", required=True).add_parser(
        "build", help="install what running guests needs, and build the image if it is not in the cache"
    )
    build.add_argument(
        "--or-without",
        action="store_true",
        help="where that is impossible, say so and succeed; but not in CI (environment variable CI)",
    )
    arguments = parser.parse_args()
    try:
        ensure(RUNNING)
        print(image())
    except GuestImageError as error:
        without = arguments.or_without and not os.environ.get("CI")
        print(
            f"guest: {error}{' - the tests of real guests are left out' if without else ''}", file=sys.stderr
        )
        return 0 if without else 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
