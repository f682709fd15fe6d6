"""The Proxmox VE that the contract is checked on: the simulator, or a real one that the environment names.

``PVE_URL`` (https://host:8006), ``PVE_TOKEN_ID``, ``PVE_TOKEN_SECRET``, ``PVE_NODE`` and ``PVE_TEMPLATE``
(a VMID on that node), and ``PVE_CA`` (a PEM file; unset: the system's). On a real one every test makes its
own VM under a free VMID, marked in its description, and destroys that VM and nothing else.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxmox_operator import errors
from proxmox_operator.proxmox.credentials import TLSSettings, TokenCredentials
from proxmox_operator.proxmox.errors import NotHere
from proxmox_operator.proxmox.session import ClusterSession
from proxmox_operator.proxmox.tasks import TaskResult
from pvesim import PveSim

MARK = "<!-- proxmox-operator contract test: safe to delete -->"
PATIENCE = 300.0


@dataclass(frozen=True)
class Target:
    """Where the tests work."""

    url: str
    token_id: str
    token_secret: str
    ca: str | None
    node: str
    template: int


@pytest.fixture(scope="session")
def target() -> Iterator[Target]:
    """A real Proxmox VE where PVE_URL is set, else a simulated one."""
    environ = os.environ
    if "PVE_URL" in environ:
        ca = Path(environ["PVE_CA"]).read_text() if environ.get("PVE_CA") else None
        yield Target(
            environ["PVE_URL"],
            environ["PVE_TOKEN_ID"],
            environ["PVE_TOKEN_SECRET"],
            ca,
            environ["PVE_NODE"],
            int(environ["PVE_TEMPLATE"]),
        )
        return
    with PveSim(nodes=3, task_seconds=0.1) as sim:
        sim.add_template()
        yield Target(sim.urls[0], sim.token_id, sim.token_secret, sim.ca_pem, "pve1", 9000)


class Proxmox:
    """A session with the little that every test needs."""

    def __init__(self, target: Target, session: ClusterSession) -> None:
        self.node = target.node
        self.template = target.template
        self.session = session
        self.vms = session.vms

    async def result(self, upid: str) -> TaskResult:
        """How the task ended."""
        done: asyncio.Future[TaskResult] = asyncio.get_running_loop().create_future()
        self.session.tasks.watch(upid, done.set_result)
        return await asyncio.wait_for(done, PATIENCE)

    async def failure(self, call: Awaitable[str | None]) -> errors.OperatorError | None:
        """The error of a call, which may come at once or as the end of its task."""
        try:
            upid = await call
        except errors.OperatorError as error:
            return error
        return None if upid is None else (await self.result(upid)).error

    async def succeed(self, call: Awaitable[str | None]) -> None:
        """Have the call done, task and all."""
        error = await self.failure(call)
        if error is not None:
            raise error

    async def free_id(self) -> int:
        """A VMID that nobody has."""
        return int(await self.session.client.get("cluster/nextid"))


@pytest.fixture
async def pve(target: Target) -> AsyncIterator[Proxmox]:
    """A session on the target."""
    credentials = TokenCredentials(target.token_id, target.token_secret)
    session = ClusterSession("contract", [target.url], credentials, tls=TLSSettings(target.ca))
    yield Proxmox(target, session)
    await session.close()


@pytest.fixture
async def vmid(pve: Proxmox) -> AsyncIterator[int]:
    """A stopped clone of the template, destroyed afterwards if it still carries our mark."""
    vmid = await pve.free_id()
    await pve.succeed(pve.vms.clone(pve.node, pve.template, vmid, name="contract-test", description=MARK))
    yield vmid
    with contextlib.suppress(NotHere):
        config = await pve.vms.config(pve.node, vmid)
        if MARK in config.raw.get("description", ""):
            if (await pve.vms.status(pve.node, vmid)).status == "running":
                await pve.succeed(pve.vms.stop(pve.node, vmid))
            await pve.succeed(pve.vms.destroy(pve.node, vmid))
