"""VMTemplates in a world, and the images that they are made from.

    @pytest.fixture
    def templates(world):
        with Templates(world) as templates:
            yield templates

    def test_something(templates):
        name = templates.make(storage="local-lvm")     # from an image of its own, which is served on a loopback port
        templates.wait_ready(name)

Images come to a local storage of each node, made for the test, which takes nothing else; ``via`` says how.
"""

import hashlib
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from harness.conditions import Condition, condition_of, is_ready, lines
from harness.kubeapi import Raw
from harness.waiting import PATIENCE
from harness.world import Said, World
from imageserver import GIB, ImageServer, qcow2
from proxmox_operator.kube.resources import VM_TEMPLATES


class Templates:
    """Use as a context manager, around each test."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.server = ImageServer()
        self.storage = world.name("images")
        self.via = "Proxmox"
        self._made: list[str] = []

    def __enter__(self) -> Self:
        self.world.sim.add_storage(self.storage, "dir", content="import")
        self.world.look()
        self.server.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.__exit__(kind, error, trace)
        for name in self._made:
            self.world.remove(VM_TEMPLATES, name)

    # Images

    def image(self, salt: str = "", *, gib: int = 3, path: str = "/debian-12.qcow2", **faults: Any) -> Raw:
        """``spec.image`` of an image that is being served, with these faults; another ``salt`` is another image."""
        data = qcow2(gib * GIB, salt.encode())
        url = self.server.serve(path, data, **faults)
        checksum = f"sha256:{hashlib.sha256(data).hexdigest()}"
        return {"url": url, "checksum": checksum, "storage": self.storage, "via": self.via}

    def files(self, node: str) -> list[str]:
        """What lies on the image storage of a node, half-downloaded files too."""
        return sorted(name.removeprefix("import/") for name in self.world.sim.files(self.storage, node))

    # VMTemplates

    def make(self, prefix: str = "debian", **spec: Any) -> str:
        """Apply a new VMTemplate and return its name; without ``image`` or ``fromVM`` from an image of its own."""
        name = f"{self.world.name(prefix)}-{self.world.namespace}"
        if "image" not in spec and "fromVM" not in spec:
            spec["image"] = self.image(name, path=f"/{name}.qcow2")
        self.apply(name, **{"storage": "local-lvm", **spec})
        return name

    def apply(self, name: str, **spec: Any) -> Raw:
        """Apply a VMTemplate of this name in the world's cluster; without fields that are None. Returns that."""
        self._made.append(name)
        wanted = {"clusterRef": {"name": self.world.cluster}, **spec}
        manifest = {
            "metadata": {"name": name},
            "spec": {key: value for key, value in wanted.items() if value is not None},
        }
        self.world.kube.apply(VM_TEMPLATES, manifest)
        return manifest

    def edit(self, name: str, **spec: Any) -> None:
        """Change fields of ``spec``; None removes one."""
        self.world.kube.merge(VM_TEMPLATES, name, {"spec": spec})

    def delete(self, name: str) -> None:
        """Start the deletion."""
        self.world.kube.delete(VM_TEMPLATES, name)

    def raw(self, name: str) -> Raw | None:
        """The object as it is now, or None."""
        return self.world.kube.get(VM_TEMPLATES, name)

    def status(self, name: str) -> Raw:
        """Its status; empty where there is none."""
        return dict((self.raw(name) or {}).get("status") or {})

    def copies(self, name: str, *, state: str | None = None) -> dict[str, int]:
        """VMIDs of the copies of the current version, by node."""
        status = self.status(name)
        return {
            copy["node"]: copy["vmid"]
            for copy in status.get("copies", ())
            if copy["version"] == status.get("version") and state in (None, copy["state"])
        }

    def condition(self, name: str, kind: str = "Ready") -> Condition | None:
        """One of its conditions as it is now."""
        return condition_of(self.raw(name), kind)

    def events(self, name: str) -> list[Said]:
        """The Events about it, in no order."""
        return self.world.events(name, namespace="default")

    # Waiting

    def wait_ready(self, name: str, *, timeout: float = PATIENCE) -> dict[str, int]:
        """Wait until all copies of the current version are where they are to be; returns them."""

        def ready() -> bool:
            raw = self.raw(name)
            return is_ready(raw) and is_ready(raw, "Distributed")

        self.wait_until(ready, f"{name} is ready everywhere", name, timeout=timeout)
        return self.copies(name, state="Ready")

    def wait_reason(self, name: str, reason: str, kind: str = "Ready") -> Condition:
        """Wait until a condition has this reason; returns it."""

        def shown() -> Condition | None:
            found = self.condition(name, kind)
            return found if found is not None and found.reason == reason else None

        return self.wait_until(shown, f"{name} shows {kind}={reason}", name)

    def wait_gone(self, name: str) -> None:
        """Wait until the object no longer exists."""
        self.wait_until(lambda: self.raw(name) is None, f"{name} is gone", name)

    def wait_until[T](
        self, look: Callable[[], T | None], what: str, name: str, *, timeout: float = PATIENCE
    ) -> T:
        """As that of the world; fails with what the VMTemplate says of itself."""

        def seen() -> str:
            return "\n".join([*lines(self.raw(name)), *map(str, self.status(name).get("copies", ()))])

        return self.world.wait_until(look, what, timeout=timeout, seen=seen)
