"""Run by the Dockerfile: takes from the virtual environment what the operator never loads, and compiles the rest.

Of the Kubernetes client we use the log-in and its configuration. The rest of it, three quarters of all packages, are
generated classes for each kind and each group of calls, twice; they are loaded at first use. Those that importing all
of our modules does not load go. What a function of ours would import later would be missed: tests/image looks for that.
"""

import compileall
import importlib
import pkgutil
import py_compile
import sys
from pathlib import Path

import kubernetes

import proxmox_operator

GENERATED = ("client/api", "client/models", "aio/client/api", "aio/client/models")


def main() -> None:
    for module in pkgutil.walk_packages(proxmox_operator.__path__, f"{proxmox_operator.__name__}."):
        importlib.import_module(module.name)
    loaded = {getattr(module, "__file__", None) for module in sys.modules.values()}
    client = Path(kubernetes.__file__).parent
    for folder in GENERATED:
        for path in (client / folder).glob("*.py"):
            if str(path) not in loaded:
                path.unlink()
    # By hash: the same sources make the same image, whenever they are compiled.
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(client.parent, quiet=1, invalidation_mode=mode)


if __name__ == "__main__":
    main()
