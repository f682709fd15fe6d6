"""Runs a command that ends when its parent does. Run as a script: `python tether.py PARENT COMMAND...`.

The kernel sends the command SIGTERM when the thread that started it ends, however that comes about (Linux; elsewhere
the command only ends when it is told to). Start it from the main thread for that reason.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before the call above took hold
            raise SystemExit(1)
    os.execv(command[0], command)  # noqa: S606 - the command is our own; no shell is wanted


if __name__ == "__main__":
    main()
