"""``proxmox-operator release``: objects go, VMs stay, and an operator that is installed again finds its VMs."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from harness.kubeapi import Raw
from harness.operator import NAMESPACE
from harness.templates import Templates
from harness.world import World
from proxmox_operator.api.names import FINALIZER
from proxmox_operator.cli import main
from proxmox_operator.kube.resources import LEASES, PROXMOX_CLUSTERS, PROXMOX_VMS, VM_TEMPLATES

Release = Callable[..., int]
OTHERS = "example.org/keep"


@pytest.fixture
def release(world: World) -> Iterator[Release]:
    """Runs the command against this API server, with a Lease of its own."""
    lease = world.name("lease")

    def run(*arguments: str) -> int:
        given = {
            "kubeconfig": str(world.control_plane.kubeconfig),
            "namespace": NAMESPACE,
            "lease-name": lease,
        }
        flags = [text for name, value in given.items() for text in (f"--{name}", value)]
        return main(["release", "--all", *flags, *arguments])

    run.lease = lease  # type: ignore[attr-defined]
    yield run
    world.kube.delete(LEASES, lease, NAMESPACE)


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


def test_while_an_operator_holds_the_lease_nothing_is_let_go(
    world: World, release: Release, capsys: pytest.CaptureFixture[str]
) -> None:
    name = world.make()
    world.wait_ready(name)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {"holderIdentity": "operator_1", "leaseDurationSeconds": 60, "renewTime": now, "acquireTime": now}
    metadata = {"name": release.lease, "namespace": NAMESPACE}  # type: ignore[attr-defined]
    world.kube.create(LEASES, {"metadata": metadata, "spec": spec})
    assert release("--wait", "1") == 1
    assert "scale its Deployment to 0, and try again; nothing was changed" in capsys.readouterr().err
    assert FINALIZER in finalizers(world.raw(name))


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
