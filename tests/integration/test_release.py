"""``proxmox-operator release``: objects go, VMs stay, and an operator that is installed again finds its VMs."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from harness.kubeapi import Raw
from harness.operator import NAMESPACE
from harness.templates import Templates
from harness.world import World
from proxmox_operator.api.names import FINALIZER
from proxmox_operator.cli import main
from proxmox_operator.engine.election import LeaderElector
from proxmox_operator.kube.client import Kube
from proxmox_operator.kube.lease import KubeLease
from proxmox_operator.kube.login import log_in
from proxmox_operator.kube.resources import LEASES, PROXMOX_CLUSTERS, PROXMOX_VMS, VM_TEMPLATES
from proxmox_operator.kube.transport import AioTransport

Release = Callable[..., int]
OTHERS = "example.org/keep"


@pytest.fixture
def lease(world: World) -> Iterator[str]:
    """The name of a Lease that an operator has given back."""
    name = world.name("lease")
    hold(world, name, holder="")
    yield name
    world.kube.delete(LEASES, name, NAMESPACE)


@pytest.fixture
def release(world: World, lease: str, monkeypatch: pytest.MonkeyPatch) -> Release:
    """Runs the command against this API server. Only a write is taken to last as short as in test_process."""
    monkeypatch.setattr("proxmox_operator.engine.settings.LONGEST_WRITE", 1.0)
    monkeypatch.setattr("proxmox_operator.cli.release.MARGIN", 1.0)
    monkeypatch.setattr("proxmox_operator.cli.release.COMES_BACK", 1.0)
    given = {
        "kubeconfig": str(world.control_plane.kubeconfig), "namespace": NAMESPACE, "lease-name": lease,
        "lease-duration": "4", "lease-renew": "1", "lease-poll": "0.2", "lease-timeout": "0.9", "takeover-delay": "1",
    }  # fmt: skip

    def run(*arguments: str, **changes: str) -> int:
        flags = [text for name, value in (given | changes).items() for text in (f"--{name}", value)]
        return main(["release", "--all", *flags, *arguments])

    return run


def hold(world: World, name: str, *, holder: str) -> None:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {"holderIdentity": holder, "leaseDurationSeconds": 4, "renewTime": now, "acquireTime": now}
    manifest = {"metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}
    world.kube.delete(LEASES, name, NAMESPACE)
    world.kube.create(LEASES, manifest)


def finalizers(raw: Raw | None) -> list[str]:
    assert raw is not None
    return list(raw["metadata"].get("finalizers") or ())


def test_all_objects_are_let_go_and_nothing_in_proxmox_changes(
    world: World, release: Release, capsys: pytest.CaptureFixture[str]
) -> None:
    with Templates(world) as templates:
        template = templates.make(nodes=["pve1"])
        copy = templates.wait_ready(template)["pve1"]
        name = world.make()
        vmid = world.wait_ready(name)
        world.kube.merge(
            PROXMOX_VMS, name, {"metadata": {"finalizers": [FINALIZER, OTHERS]}}, namespace=world.namespace
        )
        world.kill()
        before = world.sim.world()
        assert release("--dry-run") == 0
        assert (
            f"would be let go: ProxmoxVM {world.namespace}/{name} (VM {vmid} on " in capsys.readouterr().out
        )
        assert FINALIZER in finalizers(world.raw(name))
        assert release() == 0
        told = capsys.readouterr().out
        assert f"let go: ProxmoxVM {world.namespace}/{name} (VM {vmid} on " in told
        assert f"let go: VMTemplate {template} (templates {copy} stay as they are)" in told
        assert f"let go: ProxmoxCluster {world.cluster}" in told
        assert finalizers(world.raw(name)) == [OTHERS]
        assert finalizers(world.kube.get(VM_TEMPLATES, template)) == []
        assert finalizers(world.kube.get(PROXMOX_CLUSTERS, world.cluster)) == []
        assert before.diff(world.sim.world()) == []
        assert release() == 0, "it can be repeated"
        assert "0 objects were let go" in capsys.readouterr().out
        world.kube.merge(PROXMOX_VMS, name, {"metadata": {"finalizers": None}}, namespace=world.namespace)
        world.delete(name)
        world.wait_gone(name)
        world.start()
        world.kube.apply(PROXMOX_VMS, world.manifest(name))
        assert world.wait_ready(name) == vmid
        assert templates.wait_ready(template) == {"pve1": copy}
        assert world.sim.world().vmids == before.vmids


@contextmanager
def stopped(world: World) -> Iterator[None]:
    """While this world's operator does not run."""
    world.kill()
    try:
        yield
    finally:
        world.start()


@contextmanager
def leading(world: World, lease: str) -> Iterator[None]:
    """Another process that holds the Lease, and renews it."""

    async def lead() -> None:
        begun.set()
        await stop.wait()

    async def serve() -> None:
        transport = AioTransport(await log_in(world.control_plane.kubeconfig))
        elector = LeaderElector(
            KubeLease(Kube(transport), namespace=NAMESPACE, name=lease),
            identity="operator_1", duration=20.0, renew=1.0, poll=0.2, call_timeout=0.9,
        )  # fmt: skip
        try:
            await elector.run(lead)
        finally:
            await transport.close()

    begun, loop = threading.Event(), asyncio.new_event_loop()
    stop = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert begun.wait(20)
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        loop.close()


def test_while_an_operator_holds_the_lease_nothing_is_let_go(
    world: World, lease: str, release: Release, capsys: pytest.CaptureFixture[str]
) -> None:
    name = world.make()
    world.wait_ready(name)
    with leading(world, lease):
        assert release() == 1
    assert "scale its Deployment to 0, and try again; nothing was changed" in capsys.readouterr().err
    assert FINALIZER in finalizers(world.raw(name))


def test_a_lease_of_an_operator_that_was_killed_is_waited_for(
    world: World, lease: str, release: Release, capsys: pytest.CaptureFixture[str]
) -> None:
    name = world.make()
    world.wait_ready(name)
    with stopped(world):
        hold(world, lease, holder="operator_1")
        begun = time.monotonic()
        assert release() == 0
        assert FINALIZER not in finalizers(world.raw(name))
    assert time.monotonic() - begun > 4 + 1, "until it has expired, and its last call has arrived"


def test_an_operator_outside_of_the_election_is_found_out(
    world: World, release: Release, capsys: pytest.CaptureFixture[str]
) -> None:
    name = world.make()
    world.wait_ready(name)
    assert release() == 1
    told = capsys.readouterr().err
    assert "an operator runs that takes no part in this election" in told
    assert f"ProxmoxVM {world.namespace}/{name}" in told
    assert FINALIZER in finalizers(world.raw(name))


def test_without_a_lease_it_has_to_be_said_that_no_operator_runs(
    world: World, release: Release, capsys: pytest.CaptureFixture[str]
) -> None:
    name = world.make()
    world.wait_ready(name)
    with stopped(world):
        assert release(**{"lease-name": "nowhere"}) == 1
        assert "there is no Lease" in capsys.readouterr().err
        assert FINALIZER in finalizers(world.raw(name))
        assert release("--without-lease", **{"lease-name": "nowhere"}) == 0
        assert FINALIZER not in finalizers(world.raw(name))


def test_an_api_server_that_cannot_be_logged_in_to_is_told_at_once(
    release: Release, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "kubeconfig"
    broken.write_text("{ no: [yaml")
    assert release(kubeconfig=str(broken)) == 1
    assert "cannot log in to Kubernetes" in capsys.readouterr().err


def test_what_is_no_option_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["release", "--all", "--everything"])
    assert ended.value.code == 2
    assert "proxmox-operator release: error: unrecognized arguments: --everything" in capsys.readouterr().err


def test_all_has_to_be_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["release"])
    assert ended.value.code == 2
    assert "--all" in capsys.readouterr().err
