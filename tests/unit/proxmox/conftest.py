"""Simulated clusters, and sessions over them, for the tests in which Proxmox's own behaviour matters."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from proxmox_operator.proxmox.credentials import TLSSettings, TokenCredentials
from proxmox_operator.proxmox.session import ClusterSession
from pvesim import PveSim

Open = Callable[..., ClusterSession]


@pytest.fixture
def sim() -> Iterator[PveSim]:
    """Three nodes, instant tasks, one template 9000 on pve1."""
    with PveSim(nodes=3) as sim:
        sim.add_template()
        yield sim


@pytest.fixture
async def open_session() -> AsyncIterator[Open]:
    """Opens sessions over a simulator; they are closed after the test."""
    sessions: list[ClusterSession] = []

    def open_one(sim: PveSim, **options: Any) -> ClusterSession:
        credentials = TokenCredentials(sim.token_id, sim.token_secret)
        settings: dict[str, Any] = {"credentials": credentials, "tls": TLSSettings(sim.ca_pem)} | options
        session = ClusterSession("lab", list(sim.urls), **settings)
        sessions.append(session)
        return session

    yield open_one
    for session in sessions:
        await session.close()
