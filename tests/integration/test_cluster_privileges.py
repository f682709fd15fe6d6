"""A token that may not do everything: the condition names path and privilege, and a later grant works at once."""

from collections.abc import Iterator

import pytest

from controlplane import Cluster
from harness.clusters import Estate, Site
from pvesim.sim import TOKEN_ID


@pytest.fixture(scope="module")
def shared_estate(control_plane: Cluster) -> Iterator[Estate]:
    with Estate(control_plane) as estate:
        yield estate


@pytest.fixture
def estate(shared_estate: Estate) -> Iterator[Estate]:
    with shared_estate.fresh():
        yield shared_estate


def restrict(site: Site, **without: str) -> None:
    """The token holds everything on / but what ``without`` names (a path's alias and a privilege)."""
    held = set(site.sim.server.privileges) - set(without.values())
    site.sim.call(lambda: site.sim.server.set_acl(TOKEN_ID, "/", held))


def unrestrict(site: Site) -> None:
    site.sim.call(lambda: site.sim.server.set_acl(TOKEN_ID, "/", site.sim.server.privileges))


@pytest.mark.parametrize(
    ("privilege", "told"),
    [
        ("VM.PowerMgmt", "VM.PowerMgmt on /vms (for starting and stopping VMs)"),
        ("VM.Config.CPU", "VM.Config.CPU on /vms (for configuring VMs)"),
        (
            "Datastore.AllocateSpace",
            "Datastore.AllocateSpace on /storage/local-lvm (for cloning and deleting VMs)",
        ),
        ("SDN.Use", "SDN.Use on /sdn/zones/localnetwork/vmbr0 (for cloning and deleting VMs)"),
    ],
)
def test_a_missing_privilege_is_named_with_its_path(estate: Estate, privilege: str, told: str) -> None:
    site = estate.site(ready=False)
    restrict(site, it=privilege)
    found = site.wait("PrivilegesMissing", kind="Authorized")
    assert (found.status, found.message) == ("False", f"the credentials lack {told}")
    unrestrict(site)
    assert site.wait("Authorized", kind="Authorized").status == "True"


def test_version_8_needs_other_privileges_for_the_agent(estate: Estate) -> None:
    site = estate.site(sim={"pve": 8})
    assert site.status()["version"].startswith("8.")
    assert site.condition("Authorized").status == "True"
    restrict(site, it="VM.Monitor")
    found = site.wait("PrivilegesMissing", kind="Authorized")
    assert found.message == "the credentials lack VM.Monitor on /vms (for asking the guest agent)"
    _, vmid = site.ready()
    assert site.sim.vm(vmid).status == "running"


def test_a_refused_call_shows_path_and_privilege_at_the_vm_that_needed_it(estate: Estate) -> None:
    site = estate.site()
    restrict(site, it="VM.PowerMgmt")
    name = site.make()
    found = site.world.wait_reason(name, "PermissionDenied")
    vmid = site.world.status(name)["vmid"]
    assert found.status == "False"
    assert f"the credentials lack VM.PowerMgmt on /vms/{vmid}" in found.message
    assert "`pveum role modify <role> --append 1 --privs " in found.message
    assert f"on /vms/{vmid}" in found.message
    assert site.sim.vm(vmid).status == "stopped"
    unrestrict(site)
    assert site.world.wait_ready(name) == vmid
    assert set(site.sim.world().vmids) == {9000, vmid}


def test_a_pool_token_that_may_not_clone_leaves_nothing_behind(estate: Estate) -> None:
    site = estate.site()
    site.sim.call(
        lambda: site.sim.server.set_acl(TOKEN_ID, "/vms", set(site.sim.server.privileges) - {"VM.Clone"})
    )
    before = site.sim.world()
    name = site.make()
    found = site.world.wait_reason(name, "PermissionDenied")
    assert "the credentials lack VM.Clone on /vms/9000" in found.message
    site.world.passes(name)
    assert before.diff(site.sim.world()) == []
    site.sim.call(lambda: site.sim.server.set_acl(TOKEN_ID, "/vms", site.sim.server.privileges))
    site.world.wait_ready(name)


def test_without_sys_audit_quorum_is_unknown_and_said_so(estate: Estate) -> None:
    site = estate.site(ready=False)
    restrict(site, it="Sys.Audit")
    found = site.wait("NotVisible", kind="Quorate")
    assert (found.status, found.message) == ("Unknown", "grant Sys.Audit on / to have quorum checked")
    assert "Sys.Audit on /" in site.wait("PrivilegesMissing", kind="Authorized").message
    unrestrict(site)
    site.wait("Quorate", kind="Quorate", status="True")


def test_a_pool_is_where_privileges_are_needed(estate: Estate) -> None:
    site = estate.unapplied()
    site.sim.add_pool("kubernetes")
    site.good_secret()
    site.apply(pool="kubernetes")
    site.wait("Ready")
    _, vmid = site.ready()
    assert site.sim.world().vm(vmid).pool == "kubernetes"
    site.sim.call(
        lambda: site.sim.server.set_acl(TOKEN_ID, "/pool", set(site.sim.server.privileges) - {"VM.Allocate"})
    )
    found = site.wait("PrivilegesMissing", kind="Authorized")
    assert (
        found.message == "the credentials lack VM.Allocate on /pool/kubernetes (for cloning and deleting VMs)"
    )


def test_sight_that_is_lost_on_one_vm_is_unknown_and_deletes_nothing(estate: Estate) -> None:
    site = estate.site()
    name, vmid = site.ready()
    before = site.sim.world()
    site.sim.revoke(TOKEN_ID, f"/vms/{vmid}")
    site.world.wait_until(lambda: site.world.condition(name).status == "Unknown", "Ready is Unknown", name)
    site.forget_calls()
    site.world.passes(name)
    site.world.delete(name)
    site.world.passes(name)
    assert site.writes() == []
    assert before.diff(site.sim.world()) == []
    site.sim.call(lambda: site.sim.server.set_acl(TOKEN_ID, f"/vms/{vmid}", site.sim.server.privileges))
    site.world.wait_gone(name)
    assert set(site.sim.world().vmids) == {9000}
