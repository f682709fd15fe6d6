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
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart.conftest import NAMESPACE, Helm
from chartfiles import CHART
from controlplane import ControlPlane
from harness.account import ACCOUNT
from imageserver import GIB, ImageServer, qcow2
from pvesim import PveSim

USER = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
TEAMS = ("team-a", "team-b")
USER_DATA = "#cloud-config\n{}\n"
API = "proxmox-operator.io/v1alpha1"

type Right = tuple[str, str, str]
"""API group, resource with its subresource, verb."""


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
        "upgrade", "--install", "proxmox-operator", str(CHART), "-n", NAMESPACE, "--create-namespace",
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


def live(server: ControlPlane, sim: PveSim, namespaces: tuple[str, ...]) -> None:
    """Make everything, have the same thing go wrong twice with a VM, and take all of it away."""
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
            deadline = time.monotonic() + 60
            while sim.vm(vmid).status != "running":
                assert time.monotonic() < deadline, server.kubectl(
                    "describe", "pvm", "web", "-n", namespaces[0]
                ).stdout
                time.sleep(0.1)
        for namespace in namespaces:
            server.kubectl("delete", "pvm", "web", "-n", namespace, "--timeout=60s", check=True)
        server.kubectl("delete", "pvt,pvec", "--all", "--timeout=60s", check=True)


def where(namespace: str) -> tuple[str, ...]:
    return ("pvm/web", "-n", namespace, "--timeout=90s")


def ready(server: ControlPlane, namespace: str) -> None:
    done = server.kubectl("wait", "--for=condition=Ready", *where(namespace))
    if done.returncode:
        pytest.fail(done.stderr + server.kubectl("get", "pvec,pvt,pvm", "-A", "-o", "wide").stdout)


def granted(server: ControlPlane) -> set[Right]:
    """What the rules that are bound to the account allow."""
    found = set()
    for kind in ("roles", "clusterroles"):
        listed = yaml.safe_load(server.kubectl("get", kind, "-A", "-o", "yaml", check=True).stdout)
        for role in listed["items"]:
            labels = role["metadata"].get("labels", {})
            if labels.get("app.kubernetes.io/name") != "proxmox-operator" or any(
                "aggregate" in label for label in labels
            ):
                continue  # fmt: skip
            for rule in role["rules"]:
                found |= {
                    (group, resource, verb)
                    for group in rule["apiGroups"]
                    for resource in rule["resources"]
                    for verb in rule["verbs"]
                }
    return found


def used(server: ControlPlane) -> tuple[set[Right], list[str]]:
    """What was asked for, and what of it was forbidden."""
    rights, forbidden = set(), []
    for event in server.audit(USER):
        where = event.get("objectRef")
        if where is None or "resource" not in where:
            continue
        resource = "/".join(filter(None, (where["resource"], where.get("subresource"))))
        rights.add((where.get("apiGroup", ""), resource, event["verb"]))
        if event.get("responseStatus", {}).get("code") == 403:
            forbidden.append(f"{event['verb']} {event['requestURI']}")
    return rights, forbidden


@pytest.mark.timeout(400)
def test_the_account_may_do_all_that_the_operator_does_and_no_more(
    helm: Helm, server: ControlPlane, world: PveSim, tmp_path: Path
):
    for team in TEAMS:
        server.create_namespace(team)
    log = tmp_path / "operator.log"
    with process(server, log, install(helm, server, tmp_path)):
        live(server, world, TEAMS)
    rights, forbidden = used(server)
    assert not forbidden
    assert granted(server) == rights

    with process(server, log, install(helm, server, tmp_path, watchNamespaces=list(TEAMS))):
        live(server, world, TEAMS)
    assert not used(server)[1], "with rights in two namespaces only"
    assert world.token_secret not in log.read_text()
