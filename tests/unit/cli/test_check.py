"""``proxmox-operator check`` against the simulator: what it says, what it returns, and what it never says."""

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxmox_operator.cli import main
from proxmox_operator.engine.settings import DEFAULT_NAMESPACE
from pvesim import PveSim
from pvesim.sim import TOKEN_ID

EXAMPLES = Path(__file__).parents[3] / "manifests" / "examples"
CLUSTER = """\
kind: ProxmoxCluster
metadata: {name: lab}
spec:
  endpoints: [https://pve1.example.org:8006]
  credentialsSecretRef: {name: proxmox}
  vmidRange: {start: 10000, end: 10999}
  access: [{allow: Everything}]
"""
SECRET = "kind: Secret\nmetadata: {name: proxmox}\n"


@pytest.fixture
def sim() -> Iterator[PveSim]:
    with PveSim(nodes=2) as sim:
        yield sim


@pytest.fixture
def manifests(sim: PveSim, tmp_path: Path) -> Callable[..., list[str]]:
    """Writes a ProxmoxCluster, and its Secret unless that is None; the names of the files."""

    def write(
        secret: dict[str, Any] | None = None,
        *,
        with_secret: bool = True,
        namespace: str | None = DEFAULT_NAMESPACE,
        **spec: Any,
    ) -> list[str]:
        cluster = {
            "apiVersion": "proxmox-operator.io/v1alpha1",
            "kind": "ProxmoxCluster",
            "metadata": {"name": "lab"},
            "spec": {
                "endpoints": sim.urls,
                "credentialsSecretRef": {"name": "proxmox"},
                "tls": {"caBundle": sim.ca_pem},
                "vmidRange": {"start": 10000, "end": 10999},
                "defaults": {"storage": "local-lvm", "bridge": "vmbr0", "seedStorage": "local"},
                "access": [{"allow": "Everything"}],
                **spec,
            },
        }
        token = {"stringData": {"tokenID": sim.token_id, "tokenSecret": sim.token_secret}}
        metadata = {"name": "proxmox"} | ({"namespace": namespace} if namespace is not None else {})
        documents = [cluster]
        if with_secret:
            documents.append(
                {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, **(secret or token)}
            )
        file = tmp_path / "cluster.yaml"
        file.write_text(yaml.safe_dump_all(documents))
        return [str(file)]

    return write


def lines(text: str, state: str) -> list[str]:
    return [line.split(maxsplit=1)[1] for line in text.splitlines() if line.startswith(f"  {state}")]


def test_where_all_is_there_it_says_so_and_succeeds(manifests, sim, capsys):
    before = sim.world()
    assert main(["check", *manifests()]) == 0
    out = capsys.readouterr().out
    assert f"ProxmoxCluster lab, as {TOKEN_ID}" in out
    assert lines(out, "FAILED") == lines(out, "optional") == []
    assert [line for line in lines(out, "ok") if line.startswith("https://")] == sim.urls
    assert "cluster pvesim, with quorum; nodes: pve1, pve2" in out
    assert "spec.defaults.seedStorage local: on pve1, pve2" in out
    assert "pveum" not in out
    assert sim.token_secret not in out
    assert before.diff(sim.world()) == []
    assert sim.recorder.mutating == []


def test_a_secret_where_the_operator_reads_none_is_told_and_the_rest_is_asked_all_the_same(
    manifests, tmp_path, capsys
):
    assert main(["check", *manifests(namespace="shop")]) == 1
    out = capsys.readouterr().out
    assert lines(out, "FAILED") == [
        "Secret proxmox: metadata.namespace is shop, where the operator reads no credentials: set it to "
        "proxmox-operator-system, or give the --namespace that the operator runs in"
    ]
    assert "reading VMs and nodes" in lines(out, "ok")
    assert main(["check", "--namespace", "shop", *manifests(namespace="shop")]) == 0
    assert main(["check", *manifests(namespace=None)]) == 0
    other = tmp_path / "other.yaml"
    other.write_text(
        f"{SECRET.replace('proxmox}', 'proxmox, namespace: shop}')}stringData: {{tokenID: other}}\n"
    )
    assert main(["check", str(other), *manifests()]) == 0


def test_all_that_was_left_as_in_the_examples_is_told_at_once(tmp_path, capsys):
    examples = [EXAMPLES / name for name in ("credentials-secret.yaml", "cluster-lab.yaml")]
    assert main(["check", *map(str, examples)]) == 2
    shown = capsys.readouterr()
    assert (
        "ProxmoxCluster lab: spec.tls.caBundle is not filled in: paste /etc/pve/pve-root-ca.pem" in shown.err
    )
    assert "Secret proxmox-operator-system/proxmox-credentials: tokenSecret is not filled in: " in shown.err
    assert shown.out == ""


def test_what_is_printed_to_grant_a_privilege_is_enough(manifests, sim, capsys):
    held = set(sim.server.privileges) - {"VM.Allocate", "VM.Config.CPU", "Datastore.AllocateSpace"}
    sim.call(lambda: sim.server.set_acl(TOKEN_ID, "/", held))
    assert main(["check", *manifests()]) == 1
    out = capsys.readouterr().out
    [creating, configuring] = lines(out, "FAILED")
    assert (
        creating
        == "cloning and deleting VMs: lacks VM.Allocate on /vms, Datastore.AllocateSpace on /storage/local-lvm"
    )
    assert configuring == "configuring VMs: lacks VM.Config.CPU on /vms"
    printed = [
        line.split() for line in out.splitlines() if line.startswith("  pveum role modify ROLE --append 1")
    ]
    granted = {words[-1]: words[7].split(",") for words in printed}
    assert granted.keys() == {"/vms", "/storage/local-lvm"}
    for path, privileges in granted.items():  # the role that is extended is that of an entry on / here
        kept = set(sim.server.own(TOKEN_ID, path))
        sim.call(lambda path=path, new=kept | set(privileges): sim.server.set_acl(TOKEN_ID, path, new))
    assert main(["check", *manifests()]) == 0


def test_a_token_without_any_entry_is_told_to_be_given_one(manifests, sim, capsys):
    sim.call(lambda: sim.server.set_acl(TOKEN_ID, "/", ()))
    assert main(["check", *manifests()]) == 1
    out = capsys.readouterr().out
    assert "pveum role add ROLE --privs VM.Audit" in out
    assert "pveum acl modify /vms --users USER --tokens TOKEN --roles ROLE" in out
    assert "role modify" not in out


def test_cloning_needs_a_privilege_of_each_template(manifests, sim, capsys):
    sim.add_template(vmid=9000)
    sim.add_template(vmid=9001)
    held = set(sim.server.privileges) - {"VM.Clone"}
    sim.call(lambda: sim.server.set_acl(TOKEN_ID, "/", held))
    assert main(["check", *manifests()]) == 1
    assert lines(capsys.readouterr().out, "FAILED") == ["cloning templates: lacks VM.Clone on /vms"]
    sim.call(lambda: sim.server.set_acl(TOKEN_ID, "/vms/9001", held | {"VM.Clone"}))
    assert main(["check", *manifests()]) == 0
    assert "cloning templates, of which 9001 only" in lines(capsys.readouterr().out, "ok")


def test_the_storage_of_seeds_has_to_be_seen_too(manifests, sim, capsys):
    held = set(sim.server.privileges) - {"Datastore.Audit"}
    sim.call(lambda: sim.server.set_acl(TOKEN_ID, "/storage/local", held))
    assert main(["check", *manifests()]) == 1
    told = lines(capsys.readouterr().out, "FAILED")
    assert told[0] == "reading VMs and nodes: lacks Datastore.Audit on /storage/local"


def test_the_storages_of_images_are_those_of_the_templates_that_are_for_the_cluster(
    manifests, sim, tmp_path, capsys
):
    sim.server.add_storage("images", "dir", size_gib=100, content="import")
    held = set(sim.server.privileges) - {"Datastore.AllocateTemplate"}
    sim.call(lambda: sim.server.set_acl(TOKEN_ID, "/storage/images", held))
    image = {"url": "https://example.org/a.qcow2", "checksum": f"sha256:{'0' * 64}", "storage": "images"}
    template = {"kind": "VMTemplate", "metadata": {"name": "debian"}, "spec": {"image": image}}
    file = tmp_path / "template.yaml"
    file.write_text(yaml.safe_dump(template))
    assert main(["check", *manifests(), str(file)]) == 0
    assert lines(capsys.readouterr().out, "optional") == [
        "downloading images of templates: lacks Datastore.AllocateTemplate on /storage/images"
    ]
    file.write_text(yaml.safe_dump({**template, "spec": {"image": image, "clusterRef": {"name": "other"}}}))
    assert main(["check", *manifests(), str(file)]) == 0
    assert lines(capsys.readouterr().out, "optional") == []
    file.write_text(yaml.safe_dump({**template, "spec": {"image": {**image, "storage": "local-lvm"}}}))
    assert main(["check", *manifests(), str(file)]) == 1
    assert lines(capsys.readouterr().out, "FAILED") == [
        "spec.image.storage of VMTemplates, local-lvm: on no node, or its content is without import"
    ]


def test_what_only_some_vms_need_is_told_and_is_no_failure(manifests, sim, capsys):
    held = set(sim.server.privileges) - {"VM.Migrate", "Sys.Console"}
    sim.call(lambda: sim.server.set_acl(TOKEN_ID, "/", held))
    assert main(["check", *manifests()]) == 0
    out = capsys.readouterr().out
    assert lines(out, "optional") == [
        "high availability: lacks Sys.Console on /",
        "moving VMs: lacks VM.Migrate on /vms",
    ]
    needed, _, optional = out.partition("Only where it is wanted, on a Proxmox node:")
    assert "pveum" not in needed
    assert "--privs VM.Migrate   # for /vms" in optional


def test_an_endpoint_that_is_down_is_a_failure_and_the_others_are_asked(manifests, sim, capsys):
    sim.endpoints["pve2"].down()
    assert main(["check", *manifests()]) == 1
    out = capsys.readouterr().out
    [down] = lines(out, "FAILED")
    assert down.startswith(sim.urls[1])
    assert down.count(sim.urls[1]) == 1
    assert "refused" in down
    assert "reading VMs and nodes" in lines(out, "ok")


@pytest.mark.parametrize(
    "secret",
    [
        {"stringData": {"tokenID": TOKEN_ID, "tokenSecret": "wrong-and-secret"}},
        {"stringData": {"username": "root@pam", "password": "wrong-and-secret"}},
    ],
)
def test_credentials_that_are_refused_are_told_and_not_shown(manifests, secret, sim, capsys):
    assert main(["check", *manifests(secret)]) == 1
    shown = capsys.readouterr()
    refused = lines(shown.out, "FAILED")
    assert len(refused) == len(sim.urls)
    assert all("Proxmox refused the credentials" in line for line in refused)
    assert "wrong-and-secret" not in shown.out + shown.err


def test_storages_and_bridges_that_are_nowhere_are_told(manifests, capsys):
    defaults = {"storage": "tank", "bridge": "vmbr7", "seedStorage": "local-lvm"}
    assert main(["check", *manifests(defaults=defaults)]) == 1
    assert lines(capsys.readouterr().out, "FAILED") == [
        "spec.defaults.storage tank: on no node, or its content is without images",
        "spec.defaults.seedStorage local-lvm: on no node, or its content is without iso",
        "spec.defaults.bridge vmbr7: seen on no node: it is not there, or SDN.Use on it is missing",
    ]


def test_a_ca_that_did_not_sign_is_told(manifests, capsys):
    other = PveSim(cluster="other")
    for tls in ({"caBundle": other.ca_pem}, {}):
        assert main(["check", *manifests(tls=tls)]) == 1
        failed = lines(capsys.readouterr().out, "FAILED")
        assert len(failed) == 2
        for told in failed:
            assert "certificate not trusted" in told
            assert "put the cluster's /etc/pve/pve-root-ca.pem into spec.tls.caBundle" in told


def test_a_misspelt_field_is_named_before_anything_is_asked(manifests, capsys):
    tls = {"caBundel": "-----BEGIN CERTIFICATE-----", "ca_bundle": ""}
    assert main(["check", *manifests(tls=tls, limits={"poll": 5})]) == 2
    shown = capsys.readouterr()
    unknown = ("spec.tls.caBundel", "spec.tls.ca_bundle", "spec.limits.poll")
    told = "; ".join(f"ProxmoxCluster lab: {field}: there is no such field" for field in unknown)
    assert told in shown.err
    assert shown.out == ""


def test_the_secret_may_come_from_the_environment(manifests, sim, monkeypatch, capsys):
    files = manifests(with_secret=False)
    assert main(["check", *files]) == 2
    assert "set PROXMOX_TOKEN_ID and PROXMOX_TOKEN_SECRET" in capsys.readouterr().err
    monkeypatch.setenv("PROXMOX_TOKEN_ID", sim.token_id)
    monkeypatch.setenv("PROXMOX_TOKEN_SECRET", sim.token_secret)
    assert main(["check", *files]) == 0


def test_base64_as_kubernetes_has_it_is_read(manifests, sim):
    data = {"tokenID": b64(sim.token_id), "tokenSecret": b64(sim.token_secret)}
    assert main(["check", *manifests({"data": data})]) == 0


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("kind: ProxmoxVM\n", "there is no ProxmoxCluster in these files"),
        ("kind: ProxmoxCluster\nmetadata: {name: lab}\nspec: {}\n", "spec.endpoints"),
        ("tokenSecret: [very-secret\n", "is no YAML at line 2"),
        ("made: 2026-13-01\n", "is no YAML"),
        (
            f"{CLUSTER}---\nkind: Secret\nmetadata: very-secret\n",
            "a Secret: metadata must hold keys and values",
        ),
        (f"{CLUSTER}---\n{SECRET}stringData: very-secret\n", "stringData must hold keys and values"),
        (f"{CLUSTER}---\n{SECRET}data: [very-secret]\n", "data must hold keys and values"),
        (f"{CLUSTER}---\n{SECRET}data: {{tokenID: very-secret}}\n", "a value under data is not base64"),
        (
            f"{CLUSTER}---\n{SECRET}stringData: {{tokenID: a@pve!b=very-secret, tokenSecret: very-secret}}\n",
            "tokenID must look like user@realm!name",
        ),
    ],
)
def test_manifests_that_cannot_be_right_are_wrong_usage(tmp_path, text, told, capsys):
    file = tmp_path / "some.yaml"
    file.write_text(text)
    assert main(["check", str(file)]) == 2
    shown = capsys.readouterr()
    assert told in shown.err
    assert "very-secret" not in shown.out + shown.err


def test_a_file_that_is_not_there_is_named(capsys):
    assert main(["check", "nowhere.yaml"]) == 2
    assert "nowhere.yaml: No such file" in capsys.readouterr().err
