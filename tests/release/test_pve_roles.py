"""The roles of manifests/proxmox are what the operator asks for: all of it, and nothing besides."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pveroles
from proxmox_operator.api import ProxmoxCluster
from proxmox_operator.cli.check import Findings, examine
from proxmox_operator.proxmox.credentials import TokenCredentials
from proxmox_operator.proxmox.permissions import Feature
from pvesim import PveSim
from release.pvenode import ROOT, SCRIPTS, SECRET, Node

IMAGES = "local"
ALL = " ".join(feature.name.lower() for feature in pveroles.CHOICES)


@pytest.fixture(scope="module", params=pveroles.VERSIONS)
def sim(request: pytest.FixtureRequest) -> Iterator[PveSim]:
    with PveSim(nodes=2, pve=request.param) as sim:
        yield sim


@pytest.fixture
def node(sim: PveSim, tmp_path: Path) -> Node:
    return Node(tmp_path, sim)


def check(sim: PveSim, *, pool: str | None = None) -> Findings:
    """What `proxmox-operator check` finds about the simulator, with the token."""
    spec = {
        "endpoints": sim.urls,
        "credentialsSecretRef": {"name": "proxmox"},
        "tls": {"caBundle": sim.ca_pem},
        "vmidRange": {"start": 10000, "end": 10999},
        "defaults": {"storage": "local-lvm", "bridge": "vmbr0", "seedStorage": "local"},
        "access": [{"allow": "Everything"}],
        **({"pool": pool} if pool else {}),
    }
    cluster = ProxmoxCluster.parse({"metadata": {"name": "lab"}, "spec": spec})
    return asyncio.run(examine(cluster, TokenCredentials(sim.token_id, sim.token_secret), [IMAGES]))


def lacking(found: Findings) -> set[str]:
    return {each.text for each in found.findings if not each.ok}


def test_the_scripts_are_those_of_the_code() -> None:
    """Written anew with `make pve-roles`."""
    written = {path.name: path.read_text(encoding="utf-8") for path in SCRIPTS.glob("*.sh")}
    assert written == pveroles.files()


def test_with_all_roles_every_feature_is_there(sim: PveSim, node: Node) -> None:
    done = node.run(FEATURES=ALL)
    assert done.returncode == 0, done.stderr
    node.grant()
    found = check(sim)
    assert lacking(found) == set()
    assert {feature.value for feature in Feature} <= {each.text for each in found.findings}


def test_with_a_pool_nothing_is_granted_on_other_vms_and_all_is_there(sim: PveSim, node: Node) -> None:
    sim.add_pool("kubernetes")
    assert node.run(FEATURES=ALL, POOL="kubernetes").returncode == 0
    node.grant()
    assert lacking(check(sim, pool="kubernetes")) == set()
    assert "/vms" not in node.acl[sim.token_id]


def test_without_a_choice_only_that_is_lacking(sim: PveSim, node: Node) -> None:
    assert node.run(FEATURES="").returncode == 0
    node.grant()
    found = check(sim)
    assert [each.text for each in found.findings if each.ok is False] == []
    wanted = {feature.value for feature in pveroles.CHOICES}
    if sim.server.pve == 8:
        wanted -= {Feature.EXEC.value}  # VM.Monitor, which is needed in any case, is enough
    assert {text.partition(":")[0] for text in lacking(found)} == wanted


def test_each_privilege_of_each_role_is_missed_by_name(sim: PveSim, tmp_path: Path) -> None:
    """So no role holds one that nothing asks for."""
    tried = 0
    for feature in (None, *pveroles.CHOICES):
        word = feature.name.lower() if feature else ""
        (folder := tmp_path / (word or "base")).mkdir()
        node = Node(folder, sim)
        assert node.run(FEATURES=word).returncode == 0
        for name, privileges in node.roles.items():
            if name.startswith(f"ProxmoxOperator-{word or 'base'}-"):
                for privilege in privileges:
                    node.grant(without=(name, privilege))
                    told = [each for each in check(sim).findings if privilege in each.text and not each.ok]
                    assert told, f"nothing misses {privilege} of {name}"
                    if feature is None:
                        assert any(each.ok is False for each in told), told
                    tried += 1
    assert tried == sum(len(role.privileges) for role in pveroles.roles(sim.server.pve))


def test_nothing_that_is_granted_on_the_root_reaches_below_it(sim: PveSim, node: Node) -> None:
    node.run(FEATURES=ALL)
    for paths in node.acl.values():
        assert set(paths["/"].values()) == {False}
    node.grant()
    held = sim.call(lambda: sim.server.effective(sim.token_id, "/nodes/pve1"))
    assert held == {"Sys.Audit", "Sys.AccessNetwork"}


def test_run_again_it_changes_nothing_and_the_secret_is_printed_once(sim: PveSim, node: Node) -> None:
    first = node.run()
    before = node.roles, node.acl
    again = node.run()
    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    assert (node.roles, node.acl) == before
    assert SECRET in first.stdout
    assert SECRET not in again.stdout + again.stderr
    user, _, token = sim.token_id.partition("!")
    assert node.calls("user", "token", "add") == [[user, token, "--privsep", "1"]]


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"FEATURES": "move flying"}, "there is no feature flying; there are: ha move"),
        ({"BRIDGES": "vmbr0"}, "write the bridge vmbr0 with its zone, such as localnetwork/vmbr0"),
        ({"USER_ID": ""}, "USER_ID and TOKEN must not be empty"),
    ],
)
def test_a_slip_is_told_before_anything_is_done(
    sim: PveSim, node: Node, variables: dict[str, str], told: str
) -> None:
    done = node.run(**variables)
    assert done.returncode == 2
    assert told in done.stderr
    assert node.calls() == []


def test_no_other_file_tells_other_commands_for_users_tokens_and_roles() -> None:
    pages = [ROOT / "README.md", *(ROOT / "manifests").rglob("*.yaml")]
    found = {
        f"{path.relative_to(ROOT)}: {line}"
        for path in pages
        for line in re.findall(r"pveum (?:user|role add|acl) .*", path.read_text(encoding="utf-8"))
    }
    assert found == set()
