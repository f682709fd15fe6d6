"""The one loop in which a test waits for what another process, or another thread, brings about.

until(lambda: sim.vm(100).status == "running", "VM 100 runs", seen=lambda: describe(100))
"""

import time
from collections.abc import Callable

PATIENCE = 10.0
"""Seconds that a test waits for something before it fails; what tests do with a simulator takes no tenth of it."""


def until[T](
    look: Callable[[], T | None], what: str, *, seconds: float = PATIENCE, seen: Callable[[], str] = str
) -> T:
    """Look until there is something, or it is True; returns that, as it may have gone on by then.

    Raises AssertionError with ``what``, and with what can be ``seen`` in its place.
    """
    began = time.monotonic()
    while not (found := look()):
        waited = time.monotonic() - began
        if waited > seconds:
            raise AssertionError(f"not within {seconds:g} s: {what}\n{seen()}".rstrip())
        time.sleep(max(0.03, min(waited / 50, 0.25)))  # what takes long is not asked for all the time
    return found
