"""Two electors and a real Lease: an orderly end hands over at once, a vanished leader is replaced."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest

from controlplane import Cluster
from proxmox_operator.engine.election import LeaderElector
from proxmox_operator.errors import LeadershipLost
from proxmox_operator.kube.client import Call, Kube
from proxmox_operator.kube.errors import Throttled
from proxmox_operator.kube.lease import KubeLease
from proxmox_operator.kube.login import log_in
from proxmox_operator.kube.resources import LEASES
from proxmox_operator.kube.transport import AioTransport

DURATION, RENEW, POLL, TAKEOVER = 4.0, 0.5, 0.2, 1.0


class Cable:
    """A transport that can be pulled."""

    def __init__(self, inner: AioTransport) -> None:
        self.inner = inner
        self.pulled = False

    async def send(self, call: Call) -> dict:
        if self.pulled:
            raise Throttled("pulled")
        return await self.inner.send(call)


class Process:
    def __init__(self, transport: AioTransport, namespace: str, name: str) -> None:
        self.cable = Cable(transport)
        self.elector = LeaderElector(
            KubeLease(Kube(self.cable), namespace=namespace, name="proxmox-operator"),
            identity=name,
            duration=DURATION,
            renew=RENEW,
            poll=POLL,
            call_timeout=0.4,
            takeover_delay=TAKEOVER,
        )
        self.finish = asyncio.Event()
        self.task = asyncio.create_task(self.elector.run(self.lead))

    async def lead(self) -> None:
        await self.finish.wait()

    @property
    def may_write(self) -> bool:
        return self.elector.fence.remaining() > 0


class Pair:
    def __init__(self, transport: AioTransport, namespace: str) -> None:
        self.transport, self.namespace = transport, namespace
        self.processes: list[Process] = []

    def start(self, name: str) -> Process:
        made = Process(self.transport, self.namespace, name)
        self.processes.append(made)
        return made

    async def until(self, condition: Callable[[], bool], *, within: float) -> float:
        began = time.monotonic()
        async with asyncio.timeout(within):
            while not condition():
                assert sum(each.may_write for each in self.processes) <= 1
                await asyncio.sleep(0.01)
        return time.monotonic() - began


@pytest.fixture
async def pair(control_plane: Cluster, namespace: str) -> AsyncIterator[Pair]:
    transport = AioTransport(await log_in(control_plane.kubeconfig))
    made = Pair(transport, namespace)
    yield made
    for process in made.processes:
        process.task.cancel()
    await asyncio.gather(*(process.task for process in made.processes), return_exceptions=True)
    await transport.close()


async def test_of_two_that_start_at_once_one_leads_and_hands_over_at_once_when_it_ends(
    pair: Pair, control_plane: Cluster, namespace: str
):
    one, two = pair.start("one"), pair.start("two")
    await pair.until(lambda: one.may_write or two.may_write, within=5)
    for _ in range(20):
        assert one.may_write != two.may_write
        await asyncio.sleep(0.1)
    leader, other = (one, two) if one.may_write else (two, one)
    jsonpath = "{.spec.holderIdentity} {.spec.leaseDurationSeconds} {.spec.leaseTransitions}"
    command = ("get", "lease", "proxmox-operator", "-n", namespace, "-o", f"jsonpath={jsonpath}")
    identity = "one" if leader is one else "two"
    assert control_plane.kubectl(*command, check=True).stdout == f"{identity} 4 0"
    leader.finish.set()
    await leader.task
    assert await pair.until(lambda: other.may_write, within=DURATION) < DURATION / 2
    assert control_plane.kubectl(*command, check=True).stdout.endswith(" 4 1")


async def test_sigterm_hands_over_at_once(pair: Pair):
    leader = pair.start("leader")
    await pair.until(lambda: leader.may_write, within=5)
    other = pair.start("other")
    await asyncio.sleep(3 * POLL)
    leader.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader.task
    assert await pair.until(lambda: other.may_write, within=DURATION) < DURATION / 2


async def test_a_leader_that_lost_the_network_stops_before_the_next_may_write(pair: Pair):
    leader = pair.start("leader")
    await pair.until(lambda: leader.may_write, within=5)
    other = pair.start("other")
    await asyncio.sleep(3 * POLL)
    leader.cable.pulled = True
    waited = await pair.until(lambda: other.may_write, within=DURATION + TAKEOVER + 10)
    assert waited >= DURATION - RENEW - POLL + TAKEOVER
    with pytest.raises(LeadershipLost):
        await leader.task


async def test_a_deleted_lease_is_noticed_and_made_again_by_the_next(pair: Pair, control_plane: Cluster):
    leader = pair.start("leader")
    await pair.until(lambda: leader.may_write, within=5)
    kube = Kube(pair.transport)
    lease = await kube.get(LEASES, "proxmox-operator", namespace=pair.namespace)
    await kube.delete(LEASES, "proxmox-operator", uid=lease["metadata"]["uid"], namespace=pair.namespace)
    with pytest.raises(LeadershipLost):
        await asyncio.wait_for(leader.task, DURATION)
    other = pair.start("other")
    await pair.until(lambda: other.may_write, within=3)
