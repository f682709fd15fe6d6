"""What is built once and kept outside the checkout, so that a clean one finds it again: where, and by one at a time."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_dir(name: str) -> Path:
    """The folder for one thing in one version, which the name tells."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "proxmox-operator" / name


@contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Alone among all processes; ``waiting`` is called where another one has to end first."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
