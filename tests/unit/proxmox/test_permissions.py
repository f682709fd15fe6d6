"""The preflight names exactly what is missing, where, and what for."""

import pytest

from proxmox_operator.proxmox.permissions import (
    Feature,
    MissingPrivilege,
    Scope,
    effective,
    lacking,
    missing,
    needs,
)

SCOPE = Scope(storages=("ceph",), bridges=("localnetwork/vmbr0",), templates=(9000,))


def everything(scope, major):
    return {path: dict.fromkeys(privileges, 1) for path, privileges in grants(scope, major).items()}


def grants(scope, major):
    found: dict[str, list[str]] = {}
    for path, privileges, _ in needs(scope, major):
        found.setdefault(path, []).append(privileges[0])
    return found


@pytest.mark.parametrize("major", [8, 9])
@pytest.mark.parametrize("scope", [SCOPE, Scope(pool="k8s", storages=("ceph",)), Scope()])
def test_with_everything_granted_nothing_is_missing_and_each_single_lack_is_named(scope, major):
    granted = everything(scope, major)
    assert missing(granted, scope, major) == []
    for path, privileges in granted.items():
        for privilege in privileges:
            less = {**granted, path: {name: 1 for name in privileges if name != privilege}}
            found = missing(less, scope, major)
            assert [(each.path, privilege in each.privilege) for each in found] == [(path, True)]


def test_what_only_some_vms_ask_for_is_not_asked_of_a_cluster_and_told_with_its_remedy():
    granted = everything(Scope(), 9)
    assert missing(granted, Scope(), 9) == []
    assert lacking(granted, 9, pool=None) == {
        Feature.HA: "grant Sys.Console on / (for high availability) to the credentials",
        Feature.MOVE: "grant VM.Migrate on /vms (for moving VMs) to the credentials",
        Feature.EXEC: (
            "grant VM.GuestAgent.Unrestricted on /vms (for asking cloud-init how far it is) to the credentials"
        ),
    }
    held = {
        "/": {"Sys.Console": 1},
        "/pool/k8s": {"VM.Migrate": 1, "VM.GuestAgent.Unrestricted": 1},
        "/storage/nfs": {"Datastore.AllocateTemplate": 1},
    }
    assert lacking(held, 9, pool="k8s", storages=("nfs",)) == {}
    assert lacking(held, 9, pool=None).keys() == {Feature.MOVE, Feature.EXEC}
    assert lacking(held, 9, pool="k8s", storages=("local",)) == {
        Feature.SEED: (
            "grant Datastore.AllocateTemplate on /storage/local (for user data of cloud-init) to the credentials"
        )
    }


def test_version_8_asks_for_vm_monitor_to_run_a_command_in_a_guest():
    scope = Scope(features=(Feature.EXEC,))
    assert missing({"/vms": {"VM.Monitor": 1}}, scope, 8) == []
    assert [lack.privilege for lack in missing({"/vms": {"VM.GuestAgent.Audit": 1}}, scope, 8)] == [
        "VM.Monitor"
    ]


def test_version_9_has_no_vm_monitor_and_version_8_no_guest_agent_privileges():
    agent = Scope(features=(Feature.AGENT,))
    assert missing({"/vms": {"VM.Monitor": 1}}, agent, 8) == []
    assert missing({"/vms": {"VM.GuestAgent.Audit": 1}}, agent, 9) == []
    assert missing({"/vms": {"VM.GuestAgent.Unrestricted": 1}}, agent, 9) == []
    assert missing({"/vms": {"VM.Monitor": 1}}, agent, 9) == [
        MissingPrivilege(
            "/vms", "VM.GuestAgent.Audit or VM.GuestAgent.Unrestricted", "asking the guest agent"
        )
    ]


def test_privileges_at_the_root_reach_everything_below_where_they_propagate():
    granted = {"/": {"VM.Audit": 1, "VM.Allocate": 0}}
    assert effective(granted, "/vms/100") == {"VM.Audit"}
    assert effective(granted, "/") == {"VM.Audit", "VM.Allocate"}


def test_a_nearer_entry_replaces_what_is_above():
    granted = {"/": {"VM.Audit": 1}, "/vms": {"VM.PowerMgmt": 1}}
    assert effective(granted, "/vms/100") == {"VM.PowerMgmt"}
    assert effective(granted, "/storage/ceph") == {"VM.Audit"}


def test_nothing_granted_means_no_privilege():
    assert effective({}, "/vms/100") == frozenset()


def test_a_missing_privilege_reads_as_a_sentence():
    text = str(MissingPrivilege("/storage/ceph", "Datastore.AllocateSpace", Feature.CREATE.value))
    assert text == "Datastore.AllocateSpace on /storage/ceph (for cloning and deleting VMs)"


def test_a_build_needs_power_the_agent_and_a_place_for_its_seed_and_a_network_only_with_one():
    def asked(major, *bridges):
        scope = Scope(pool="k8s", storages=("local",), bridges=bridges, features=(Feature.BUILD,))
        return {(path, privilege) for path, (privilege,), _ in needs(scope, major)}

    pool = "/pool/k8s"
    common = {(pool, f"VM.{name}") for name in ("PowerMgmt", "Config.CDROM", "Config.Options")}
    common.add(("/storage/local", "Datastore.AllocateTemplate"))
    assert asked(9) == common | {(pool, "VM.GuestAgent.Unrestricted")}
    assert asked(8) == common | {(pool, "VM.Monitor")}
    assert asked(9, "vmbr0") - asked(9) == {(pool, "VM.Config.Network")}
    assert Feature.BUILD not in Scope().features


def test_a_pool_scope_asks_on_the_pool_and_not_on_all_vms():
    paths = {path for path, _, _ in needs(Scope(pool="k8s"), 9)}
    assert "/pool/k8s" in paths
    assert "/vms" not in paths
