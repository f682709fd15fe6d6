"""`PveSim`: a Proxmox VE cluster on loopback ports, in a thread of its own.

    with PveSim(nodes=3, task_seconds=0.05) as sim:
        sim.add_template()
        client = connect(sim.urls, ca=sim.ca_pem, token_id=sim.token_id, secret=sim.token_secret)

All methods can be called from any thread (but not from an interceptor, which runs in the simulator's own).
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable
from types import TracebackType
from typing import Any, TypeVar

import guest
from debian import ensure

from . import pki
from .endpoints import Listener
from .gui import Gui
from .inventory import REAL_STALENESS
from .real_agent import RealServer
from .recorder import Interceptor, Recorder
from .server import Server
from .world import World, snapshot

T = TypeVar("T")
CALL_TIMEOUT = 60.0
USER = "operator@pve"
TOKEN_ID = f"{USER}!operator"
# Test material of a simulator on the loopback interface, not a secret.
TOKEN_SECRET = "11111111-2222-4333-8444-555555555555"
PASSWORD = "pvesim-password"


class Endpoint:
    """The API endpoint of one node, and what can happen to it."""

    def __init__(self, sim: "PveSim", node: str) -> None:
        self._sim = sim
        self.node = node

    @property
    def _listener(self) -> Listener:
        return self._sim.server.listeners[self.node]

    @property
    def port(self) -> int:
        """The TCP port; it stays the same."""
        return self._listener.port

    @property
    def url(self) -> str:
        """https://ADDRESS:PORT"""
        return f"https://{self._listener.address}:{self.port}"

    def down(self) -> None:
        """Connections are refused, open ones cut. The node itself lives."""
        self._sim.run(self._listener.down())

    def up(self) -> None:
        """Listen again."""
        self._sim.run(self._listener.up())

    def hang(self) -> None:
        """Requests are read and never answered, until `resume()`."""
        self._sim.call(lambda: self._sim.server.hung.setdefault(self.node, asyncio.Event()))

    def resume(self) -> None:
        """Undo `hang()`: the waiting requests are executed."""
        self._sim.call(lambda: self._sim.server.resume(self.node))

    def cut_off(self) -> None:
        """The node loses the cluster: it answers with a frozen copy, without quorum, and refuses writes."""
        self._sim.run(self._listener.serve(self._sim.call(lambda: self._sim.server.frozen_copy(self.node))))

    def rejoin(self) -> None:
        """Undo `cut_off()` and `impersonate()`."""
        self._sim.run(self._listener.serve(self._sim.server))

    def impersonate(self, other: "PveSim") -> None:
        """Another cluster answers on this port, with its own world and CA.

        `other` has the same node names and is not started itself.
        """
        self._sim.run(self._listener.serve(other.server))


def real_server(**settings: Any) -> Server:
    """A server whose VMs are QEMU processes.

    :raises HostError: this machine lacks QEMU or the image, and neither can be made here.
    """
    ensure(guest.RUNNING, guest.WHAT)
    return RealServer(image=guest.image(), accelerator=guest.accelerator(), **settings)


class PveSim(Gui):
    """A simulated cluster.

    :param nodes: how many (`pve1`, ...) or their names.
    :param task_seconds: real seconds of a full clone; other tasks take a share. With 0 tasks end at once.
    :param time_scale: real seconds per Proxmox second, for time-outs (lock 10 s, shutdown 60 s, agent 3 s); by
        default 0.05, and 1 for guests that need their time.
    :param staleness: real seconds of the statistics loop: 0 (always fresh), or "real" for 10.
    :param address: of this machine, on which all nodes listen.
    :param pve: 8 or 9: version string, privileges, HA rules.
    :param auth_delay: real seconds by which a 401 is late (Proxmox VE: 3).
    :param proxy_timeout: real seconds after which a synchronous call is answered 596 (Proxmox VE: 30).
    :param boot_seconds: real seconds from power-on until a guest's agent answers.
    :param guests: `none`: nothing is in a VM; `qemu`: a QEMU process with a guest (hack/guest) is in each that runs.
    :param key_usage: give the CA the keyUsage extension that most real ones lack.
    """

    def __init__(
        self,
        *,
        nodes: int | Iterable[str] = 3,
        task_seconds: float = 0.0,
        time_scale: float | None = None,
        staleness: float | str = 0.0,
        pve: int = 9,
        cluster: str = "pvesim",
        address: str = "127.0.0.1",
        port_base: int = 0,
        auth_delay: float = 0.0,
        proxy_timeout: float = 30.0,
        boot_seconds: float = 0.0,
        key_usage: bool = False,
        storages: bool = True,
        guests: str = "none",
    ) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._address, self._port_base = address, port_base
        if time_scale is None:
            time_scale = 0.05 if guests == "none" else 1.0
        settings = {
            "nodes": nodes,
            "task_seconds": task_seconds,
            "time_scale": time_scale,
            "pve": pve,
            "cluster": cluster,
            "staleness": REAL_STALENESS if staleness == "real" else float(staleness),
            "key_usage": key_usage,
            "auth_delay": auth_delay,
            "proxy_timeout": proxy_timeout,
        }
        self.server = Server(**settings) if guests == "none" else real_server(**settings)
        self.server.boot_seconds = boot_seconds
        self.token_id, self.token_secret = TOKEN_ID, TOKEN_SECRET
        self.user, self.password = USER, PASSWORD
        self.server.users[USER] = PASSWORD
        self.server.add_token(TOKEN_ID, TOKEN_SECRET)
        for authid in (USER, TOKEN_ID):
            self.server.set_acl(authid, "/", self.server.privileges)
        if storages:
            self.server.add_storage("local", "dir", size_gib=100, content="iso,vztmpl,backup,import,snippets")
            self.server.add_storage("local-lvm", "lvmthin", size_gib=2000)
        self.endpoints = {node: Endpoint(self, node) for node in self.server.nodes}

    # --------------------------------------------------------------- lifecycle

    def start_server(self) -> "PveSim":
        """Listen; done by entering the context."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pvesim", daemon=True)
        self._thread.start()
        self.run(self.server.open(self._address, self._port_base))
        return self

    def stop_server(self) -> None:
        """Stop listening and end the thread; done by leaving the context. A second call does nothing."""
        if self._thread is None or self._loop is None:
            return
        self.run(self.server.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        self._thread = self._loop = None

    def __enter__(self) -> "PveSim":
        return self.start_server()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_server()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the simulator's loop (before the start: in a passing one); its result."""
        if self._loop is None:
            return asyncio.run(coroutine)
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("PveSim is called from an interceptor, which runs in the simulator's thread")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(CALL_TIMEOUT)

    def call(self, function: Callable[[], T]) -> T:
        """Run a function in the simulator's loop and return its result."""

        async def wrapped() -> T:
            return function()

        return self.run(wrapped())

    # ----------------------------------------------------------------- reading

    @property
    def urls(self) -> list[str]:
        """One URL per node."""
        return [endpoint.url for endpoint in self.endpoints.values()]

    @property
    def ca_pem(self) -> str:
        """The cluster's root CA."""
        return pki.authority(self.server.cluster_name, key_usage=self.server.key_usage).pem

    @property
    def fingerprint(self) -> str:
        """The SHA-256 fingerprint of the root CA: the identity of the cluster."""
        return pki.authority(self.server.cluster_name, key_usage=self.server.key_usage).fingerprint

    @property
    def recorder(self) -> Recorder:
        """Every request, in order."""
        return self.server.recorder

    @property
    def intercept(self) -> Interceptor | None:
        """Called in the simulator's thread for each authenticated call; returns a Verdict or None."""
        return self.server.hooks["intercept"]

    @intercept.setter
    def intercept(self, interceptor: Interceptor | None) -> None:
        self.server.hooks["intercept"] = interceptor

    def world(self) -> World:
        """A comparable summary of VMs, volumes and running tasks."""
        return self.call(lambda: snapshot(self.server))
