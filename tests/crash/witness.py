"""A person's hands on the API server, and eyes: what an object is now, a watch tells, instead of a call each time.

A crash run looks at its object every 50 ms, and there are thousands of runs: asking took a fifth of their time.
"""

import asyncio
from functools import partial
from pathlib import Path
from threading import Lock, Thread

from harness.kubeapi import KubeApi, Raw
from harness.watch import watch
from proxmox_operator.engine.queue import Key
from proxmox_operator.engine.store import ObjectStore
from proxmox_operator.kube.login import log_in
from proxmox_operator.kube.resources import Resource
from proxmox_operator.kube.transport import AioTransport


class Witness(KubeApi):
    """Use as a context manager. :meth:`seen` knows the ``kinds``, from the first object that is applied through it."""

    def __init__(self, kubeconfig: Path, *kinds: Resource) -> None:
        super().__init__(kubeconfig)
        self._kubeconfig = kubeconfig
        self._kinds = kinds
        self._store = ObjectStore()
        self._lock = Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._run, name="witness")
        self._failed: BaseException | None = None

    def __enter__(self) -> "Witness":
        self._stop = asyncio.Event()
        self._thread.start()
        return self

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._watch())
        except BaseException as error:
            self._failed = error

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()
        super().__exit__()
        self._raise()

    def _raise(self) -> None:
        """A person who sees nothing any more says so, instead of being asked in vain."""
        if self._failed is not None:
            raise RuntimeError("the watch of the witness has ended") from self._failed

    def seen(self, resource: Resource, name: str, namespace: str = "") -> Raw | None:
        """The object as it was last told of, never older than what was applied here; None once it has gone."""
        self._raise()
        with self._lock:
            return self._store.get(Key(resource.kind, namespace, name))  # type: ignore[return-value]

    def apply(self, resource: Resource, manifest: Raw) -> Raw:
        applied = super().apply(resource, manifest)
        self._hear(resource.kind, "MODIFIED", applied)
        return applied

    def forget(self, resource: Resource, name: str, namespace: str = "") -> None:
        """The object is gone for certain; the watch may still have to tell."""
        if (known := self.seen(resource, name, namespace)) is not None:
            self._hear(resource.kind, "DELETED", known)

    def _hear(self, kind: str, event: str, raw: Raw) -> None:
        with self._lock:
            if event == "DELETED":
                self._store.remove(kind, raw)
            else:
                self._store.apply(kind, raw)

    async def _watch(self) -> None:
        transport = AioTransport(await log_in(self._kubeconfig))
        feeds = [
            asyncio.create_task(watch(transport, kind, "", partial(self._hear, kind.kind)))
            for kind in self._kinds
        ]
        stop = asyncio.create_task(self._stop.wait())
        ended, _ = await asyncio.wait({stop, *feeds}, return_when=asyncio.FIRST_COMPLETED)
        for task in (stop, *feeds):
            task.cancel()
        await asyncio.gather(stop, *feeds, return_exceptions=True)
        await transport.close()
        for feed in ended - {stop}:
            feed.result()
