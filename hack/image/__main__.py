"""`python -m image build` builds the operator's image, unless it is up to date, and prints the path of its archive.

Exit status 3 says that this machine cannot build images, until a person gives it what the message names: `make test`
leaves their tests out then. In CI (the environment variable CI is set) that is a failure like any other.
"""

import argparse
import sys

from debian import HostError, report
from image.build import image


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m image", description=__doc__)
    parser.add_subparsers(dest="command", required=True).add_parser(
        "build", help="install what building takes, and build the image where its sources have changed"
    )
    parser.parse_args()
    try:
        print(image())
    except HostError as error:
        return report("image", error)
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
