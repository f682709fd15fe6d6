"""The rights of the chart: the operator, run as the chart's account, lacks none, and uses every one.

The real process (kopf's watches included) works through a life of its objects on an API server that records what it is
asked: nothing may have been forbidden, and every verb of every rule must have been used.
"""

import hashlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from chart.conftest import NAMESPACE, Helm
from chartfiles import CHART
from controlplane import ControlPlane
from harness.account import ACCOUNT
from harness.waiting import until
from imageserver import GIB, ImageServer, qcow2
from pvesim import PveSim

USER = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
TEAMS = ("team-a", "team-b")
USER_DATA = "#cloud-config\n{}\n"
API = "proxmox-operator.io/v1alpha1"


@contextmanager
def process(server: ControlPlane, log: Path, environment: dict[str, str]) -> Iterator[None]:
    """`proxmox-operator run` as the pod runs it: the account's token, and the environment of the Deployment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    ours = {"PROXMOX_OPERATOR_" + name: value for name, value in {
        "NAMESPACE": NAMESPACE,
        "KUBECONFIG": str(server.log_in_as(NAMESPACE, ACCOUNT)),
        "HEALTH_ADDRESS": "127.0.0.1",
        "HEALTH_PORT": str(port),
    }.items()}  # fmt: skip
    with log.open("a") as stderr:
        running = subprocess.Popen(
            [Path(sys.executable).with_name("proxmox-operator"), "run"],
            env=os.environ | ours | environment, stdin=subprocess.DEVNULL, stderr=stderr,
        )  # fmt: skip
    try:
        yield
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 0, log.read_text()[-2000:]
    finally:
        running.kill()
        running.wait()


def install(helm: Helm, server: ControlPlane, tmp_path: Path, **values: Any) -> dict[str, str]:
    """Install or upgrade the chart; returns the environment that it gives to the operator."""
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    helm(
        "upgrade", "--install", "--reset-values", "proxmox-operator", str(CHART), "-n", NAMESPACE, "--create-namespace",
        "-f", str(file), cluster=server,
    )  # fmt: skip
    deployment = yaml.safe_load(
        server.kubectl(
            "get", "deployment", "-n", NAMESPACE, "proxmox-operator", "-o", "yaml", check=True
        ).stdout
    )
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    return {each["name"]: each["value"] for each in container["env"]}


@pytest.fixture(scope="module")
def world() -> Iterator[PveSim]:
    """A Proxmox VE cluster with a storage for images."""
    sim = PveSim(time_scale=0.02)
    sim.start_server()
    sim.add_storage("images", "dir", content="import")
    yield sim
    sim.stop_server()


def manifests(sim: PveSim, images: ImageServer, namespaces: tuple[str, ...]) -> list[dict[str, Any]]:
    """A ProxmoxCluster with its Secret, a VMTemplate, and in each namespace a VM with user data in a Secret."""
    data = qcow2(GIB)
    image = {
        "url": images.serve("/debian.qcow2", data),
        "checksum": f"sha256:{hashlib.sha256(data).hexdigest()}",
    }
    token = {"tokenID": sim.token_id, "tokenSecret": sim.token_secret}
    cluster = {
        "endpoints": sim.urls,
        "credentialsSecretRef": {"name": "pve"},
        "tls": {"caBundle": sim.ca_pem},
        "access": [{"allow": "Everything"}],
        "defaults": {"storage": "local-lvm", "bridge": "vmbr0", "seedStorage": "local"},
    }
    template = {"storage": "local-lvm", "image": {**image, "storage": "images", "via": "Proxmox"}}
    vm = {"source": {"templateRef": {"name": "debian"}}, "cloudInit": {"userDataSecretRef": {"name": "seed"}}}
    found = [
        manifest("v1", "Secret", "pve", NAMESPACE, stringData=token),
        manifest(API, "ProxmoxCluster", "lab", spec=cluster),
        manifest(API, "VMTemplate", "debian", spec=template),
    ]
    for namespace in namespaces:
        found.append(manifest("v1", "Secret", "seed", namespace, stringData={"userdata": USER_DATA}))
        found.append(manifest(API, "ProxmoxVM", "web", namespace, spec=vm))
    return found


def manifest(api: str, kind: str, name: str, namespace: str = "", **rest: Any) -> dict[str, Any]:
    place = {"namespace": namespace} if namespace else {}
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, **place}, **rest}


def live(server: ControlPlane, sim: PveSim, namespaces: tuple[str, ...], *, doomed: str = "") -> None:
    """Make everything, have the same go wrong twice with a VM, and take all away; a doomed namespace as a whole."""
    server.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s", check=True)
    with ImageServer() as images:
        text = yaml.safe_dump_all(manifests(sim, images, namespaces))
        server.kubectl("apply", "-f", "-", input=text, check=True)
        for namespace in namespaces:
            ready(server, namespace)
        text = server.kubectl(
            "get", "pvm", "web", "-n", namespaces[0], "-o", "jsonpath={.status.vmid}"
        ).stdout
        vmid = int(text)
        for _ in range(2):
            sim.stop(vmid)
            until(
                lambda: sim.vm(vmid).status == "running",
                "it is started again",
                seconds=60,
                seen=lambda: server.kubectl("describe", "pvm", "web", "-n", namespaces[0]).stdout,
            )
        for namespace in namespaces:
            what = ("namespace", namespace) if namespace == doomed else ("pvm", "web", "-n", namespace)
            server.kubectl("delete", *what, "--timeout=60s", check=True)
        if server.kubectl("delete", "pvt,pvec", "--all", "--timeout=60s").returncode:
            pytest.fail(server.kubectl("get", "pvec,pvt,pvm", "-A", "-o", "wide").stdout)


def where(namespace: str) -> tuple[str, ...]:
    return ("pvm/web", "-n", namespace, "--timeout=90s")


def ready(server: ControlPlane, namespace: str) -> None:
    done = server.kubectl("wait", "--for=condition=Ready", *where(namespace))
    if done.returncode:
        pytest.fail(done.stderr + server.kubectl("get", "pvec,pvt,pvm", "-A", "-o", "wide").stdout)


class Right(NamedTuple):
    """One verb of one rule. ``namespace`` is empty where it holds in all."""

    group: str
    resource: str
    verb: str
    namespace: str
    names: tuple[str, ...]


class Asked(NamedTuple):
    """One request. ``namespace`` is empty for all of them, and for what is in none."""

    group: str
    resource: str
    verb: str
    namespace: str
    name: str

    def needs(self, right: Right) -> bool:
        """Whether this right allows it."""
        return (
            self[:3] == right[:3]
            and right.namespace in ("", self.namespace)
            and (not right.names or self.name in right.names)
        )


def granted(server: ControlPlane) -> list[Right]:
    """What the rules that are bound to the account allow."""
    found = []
    for kind in ("roles", "clusterroles"):
        listed = yaml.safe_load(server.kubectl("get", kind, "-A", "-o", "yaml", check=True).stdout)
        for role in listed["items"]:
            metadata = role["metadata"]
            labels = metadata.get("labels", {})
            if labels.get("app.kubernetes.io/name") != "proxmox-operator" or any(
                "aggregate" in label for label in labels
            ):
                continue  # fmt: skip
            for rule in role["rules"]:
                names = tuple(rule.get("resourceNames", ()))
                found += [
                    Right(group, resource, verb, metadata.get("namespace", ""), names)
                    for group in rule["apiGroups"]
                    for resource in rule["resources"]
                    for verb in rule["verbs"]
                ]
    return found


def asked(server: ControlPlane) -> set[Asked]:
    """What the account has asked for; nothing of it may have been forbidden."""
    found = set()
    for event in server.audit(USER):
        where = event.get("objectRef") or {}
        if "resource" in where:
            decision = event["annotations"]["authorization.k8s.io/decision"]
            assert decision == "allow", f"{event['verb']} {event['requestURI']}"
            resource = "/".join(filter(None, (where["resource"], where.get("subresource"))))
            place = (where.get("namespace", ""), where.get("name", ""))
            found.add(Asked(where.get("apiGroup", ""), resource, event["verb"], *place))
    return found


def superfluous(rights: list[Right], requests: set[Asked]) -> list[Right]:
    """Rights that nothing needed, or that hold everywhere though the operator's own namespace was enough."""
    found = []
    for right in rights:
        namespaces = {request.namespace for request in requests if request.needs(right)}
        if not namespaces or (right.namespace == "" and namespaces == {NAMESPACE}):
            found.append(right)
    return found


@pytest.mark.timeout(400)
def test_the_account_may_do_all_that_the_operator_does_and_no_more(
    helm: Helm, server: ControlPlane, world: PveSim, tmp_path: Path
):
    for team in TEAMS:
        server.create_namespace(team)
    log = tmp_path / "operator.log"
    before_the_crds = install(helm, server, tmp_path, crds={"enabled": False})
    with process(server, log, before_the_crds):
        until(
            lambda: "not installed yet: the CRDs" in log.read_text(),
            "it says that the CRDs are not there",
            seconds=30,
            seen=lambda: log.read_text()[-2000:],
        )
        install(helm, server, tmp_path)
        live(server, world, TEAMS)
    everywhere = asked(server)
    assert superfluous(granted(server), everywhere) == []
    leases = [right for right in granted(server) if right.resource == "leases" and right.verb != "create"]
    assert {right.names for right in leases} == {("proxmox-operator",)}

    with process(server, log, install(helm, server, tmp_path, watchNamespaces=list(TEAMS))):
        live(server, world, TEAMS, doomed=TEAMS[-1])
    assert superfluous(granted(server), asked(server)) == []
    assert {right.namespace for right in granted(server) if right.resource == "secrets"} == {
        NAMESPACE,
        *TEAMS[:-1],
    }
    assert world.token_secret not in log.read_text()
