"""What Argo CD and Flux make of objects as they really are in each state: live ones of a running operator."""

from collections.abc import Iterator

import pytest

from harness.judges import argocd, flux
from harness.kubeapi import Raw
from harness.templates import Templates
from harness.world import World
from proxmox_operator.kube.resources import PROXMOX_CLUSTERS

PAUSED = "proxmox-operator.io/paused"


@pytest.fixture
def templates(world: World) -> Iterator[Templates]:
    with Templates(world) as templates:
        yield templates


def judged(raw: Raw | None) -> tuple[str, str]:
    """What both say of it."""
    assert raw is not None
    return argocd(raw).status, flux(raw)


def test_a_vm_that_runs_as_wanted_is_healthy(world: World) -> None:
    name = world.make()
    vmid = world.wait_ready(name)
    raw = world.raw(name)
    assert judged(raw) == ("Healthy", "Current")
    assert raw is not None
    assert f"VM {vmid} is running" in argocd(raw).message


def test_a_vm_that_is_stopped_by_intent_is_healthy(world: World) -> None:
    name = world.make(power="Stopped")
    world.wait_ready(name)
    assert judged(world.raw(name)) == ("Healthy", "Current")


def test_what_the_operator_has_not_seen_yet_is_progressing_new_or_changed(world: World) -> None:
    name = world.make()
    world.wait_ready(name)
    world.kill()
    world.edit(name, cpu={"cores": 2})
    new = world.make()
    assert judged(world.raw(name)) == ("Progressing", "InProgress")
    assert judged(world.raw(new)) == ("Progressing", "InProgress")
    assert world.status(new) == {"observedGeneration": -1}
    world.start()
    for each in (name, new):
        world.wait_ready(each)
        assert judged(world.raw(each)) == ("Healthy", "Current")


def test_a_vm_that_waits_for_proxmox_is_progressing(world: World) -> None:
    name = world.make()
    vmid = world.wait_ready(name)
    world.sim.set_lock(vmid, "backup")
    world.look()
    world.edit(name, cpu={"cores": 2})
    world.wait_reason(name, "Locked")
    assert judged(world.raw(name)) == ("Progressing", "InProgress")
    world.sim.set_lock(vmid, None)
    world.wait_ready(name)


def test_a_vm_that_waits_for_its_template_is_progressing_and_so_is_the_template(
    world: World, templates: Templates
) -> None:
    with world.sim.hold("download:fetching") as held:
        template = templates.make()
        name = world.make(source={"templateRef": {"name": template}})
        assert held.reached.wait(10)
        world.wait_reason(name, "TemplatePending")
        templates.wait_reason(template, "Making")
        assert judged(world.raw(name)) == ("Progressing", "InProgress")
        assert judged(templates.raw(template)) == ("Progressing", "InProgress")
    world.wait_ready(name)
    templates.wait_ready(template)
    assert judged(templates.raw(template)) == ("Healthy", "Current")


def test_what_only_a_person_can_mend_is_degraded_with_the_remedy(world: World, templates: Templates) -> None:
    name = world.make(source={"clone": {"vmid": 12345}})
    world.wait_until(lambda: judged(world.raw(name)) == ("Degraded", "Failed"), "degraded", name)
    ready, raw = world.condition(name), world.raw(name)
    assert raw is not None
    assert ready is not None
    assert argocd(raw).message == f"{ready.reason}: {ready.message}"
    template = templates.make(image=templates.image() | {"checksum": f"sha256:{'0' * 64}"})
    templates.wait_reason(template, "ChecksumMismatch")
    assert judged(templates.raw(template)) == ("Degraded", "Failed")


def test_a_paused_object_is_suspended_until_it_goes_on(world: World) -> None:
    name = world.make()
    world.wait_ready(name)
    world.annotate(name, **{PAUSED: "true"})
    world.wait_reason(name, "Paused", kind="Paused")
    assert judged(world.raw(name)) == ("Suspended", "Current")
    world.edit(name, power="Stopped")
    assert judged(world.raw(name)) == ("Suspended", "InProgress")
    world.annotate(name, **{PAUSED: None})
    world.wait_until(lambda: judged(world.raw(name)) == ("Healthy", "Current"), "healthy again", name)
    assert world.status(name)["power"] == "Stopped"


def test_all_of_a_paused_cluster_is_suspended(world: World, templates: Templates) -> None:
    name, template = world.make(), templates.make()
    world.wait_ready(name)
    templates.wait_ready(template)

    def pause(value: str | None) -> None:
        world.kube.merge(PROXMOX_CLUSTERS, world.cluster, {"metadata": {"annotations": {PAUSED: value}}})

    def all_judged(wanted: tuple[str, str]) -> bool:
        found = (world.cluster_raw(), world.raw(name), templates.raw(template))
        return all(judged(raw) == wanted for raw in found)

    pause("true")
    world.wait_until(lambda: all_judged(("Suspended", "Current")), "all are suspended", name)
    pause(None)
    world.wait_until(lambda: all_judged(("Healthy", "Current")), "all are healthy", name)


def test_a_cluster_whose_credentials_are_refused_is_degraded_and_one_that_is_down_progressing(
    world: World,
) -> None:
    assert judged(world.cluster_raw()) == ("Healthy", "Current")
    world.set_secret(tokenID=world.sim.token_id, tokenSecret="another")
    world.apply_cluster(limits={"configReadsPerSecond": 99})
    world.wait_cluster("Unauthorized")
    assert judged(world.cluster_raw()) == ("Degraded", "Failed")
    world.set_secret(tokenID=world.sim.token_id, tokenSecret=world.sim.token_secret)
    world.apply_cluster(endpoints=["https://127.0.0.1:9"])
    world.wait_cluster("Unreachable", timeout=30)
    assert judged(world.cluster_raw()) == ("Progressing", "InProgress")
    world.apply_cluster()
    world.wait_cluster("Ready", timeout=30)
    assert judged(world.cluster_raw()) == ("Healthy", "Current")


def test_a_deletion_that_goes_on_is_progressing_and_one_that_is_stuck_says_why(world: World) -> None:
    """Argo CD calls both Progressing, without the script; Flux calls both Terminating."""
    delayed = world.make(deletionDelay="1h")
    stuck = world.make(protection=True)
    for name in (delayed, stuck):
        world.wait_ready(name)
        world.delete(name)
    world.wait_reason(delayed, "DeletionDelayed")
    world.wait_reason(stuck, "Protected")
    assert judged(world.raw(delayed)) == ("Progressing", "Terminating")
    raw = world.raw(stuck)
    assert judged(raw) == ("Degraded", "Terminating")
    assert raw is not None
    assert "spec.protection" in argocd(raw).message
    world.edit(stuck, protection=False)
    world.wait_gone(stuck)
