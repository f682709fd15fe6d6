"""The API server that every other integration test stands on: it answers, ends, and leaves nothing behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from ssl import create_default_context
from urllib.parse import urlsplit

import psutil
import pytest

from controlplane import Cluster, ControlPlane, ControlPlaneError, ExternalCluster, launch
from harness.waiting import until

HACK = Path(launch.__file__).resolve().parents[1]
CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.controlplane.test}
spec:
  group: controlplane.test
  names: {kind: Widget, plural: widgets, singular: widget}
  scope: Namespaced
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          properties:
            size:
              type: integer
              x-kubernetes-validations: [{rule: self >= oldSelf, message: size only grows}]
"""


@pytest.fixture(scope="module")
def own() -> Iterator[ControlPlane]:
    """One of our own, even where KUBECONFIG names another cluster for the rest of the suite."""
    with ControlPlane(with_controller_manager=True) as cluster:
        yield cluster


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if is_running(pid)]


def is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_it_serves_readyz_with_its_own_certificate_and_token(own: ControlPlane):
    request = urllib.request.Request(
        own.url + "/readyz", headers={"Authorization": f"Bearer {own.admin_token}"}
    )
    with urllib.request.urlopen(request, context=create_default_context(cafile=str(own.ca_file))) as answer:
        assert answer.read() == b"ok"


def test_a_caller_without_the_token_may_do_nothing(own: ControlPlane):
    request = urllib.request.Request(
        own.url + "/api/v1/namespaces", headers={"Authorization": "Bearer wrong"}
    )
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(request, context=create_default_context(cafile=str(own.ca_file)))


def test_every_port_it_opens_is_on_loopback(own: ControlPlane):
    listening = {
        connection.laddr.ip
        for pid in own.pids.values()
        for connection in psutil.Process(pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_its_kubeconfig_is_readable_by_its_owner_alone_and_works(own: ControlPlane):
    assert own.kubeconfig.stat().st_mode & 0o077 == 0
    nodes = own.kubectl("get", "namespaces", "-o", "name", check=True).stdout.split()
    assert {"namespace/default", "namespace/kube-system"} <= set(nodes)


def test_the_suites_cluster_enforces_cel_transition_rules_of_a_crd(
    control_plane: Cluster, namespace: str, tmp_path: Path
):
    (tmp_path / "widget.yaml").write_text(CRD)
    control_plane.install_crds(tmp_path)
    try:
        manifest = {
            "apiVersion": "controlplane.test/v1",
            "kind": "Widget",
            "metadata": {"name": "w"},
            "size": 3,
        }
        control_plane.kubectl("apply", "-n", namespace, "-f", "-", input=json.dumps(manifest), check=True)
        refused = control_plane.kubectl(
            "apply", "-n", namespace, "-f", "-", input=json.dumps(manifest | {"size": 2})
        )
        assert refused.returncode != 0
        assert "size only grows" in refused.stderr
    finally:
        control_plane.kubectl("delete", "-f", str(tmp_path), "--wait=false", check=True)


def test_kubectl_says_in_the_error_what_the_server_said(own: ControlPlane):
    with pytest.raises(ControlPlaneError, match='namespaces "nowhere" not found'):
        own.kubectl("get", "namespace", "nowhere", check=True)


def test_the_controller_manager_ends_a_namespace_and_what_is_in_it(own: ControlPlane):
    own.create_namespace("ending")
    own.kubectl("create", "configmap", "inside", "-n", "ending", check=True)
    own.delete_namespace("ending")
    until(
        lambda: own.kubectl("get", "namespace", "ending").returncode != 0,
        "the namespace is gone",
        seconds=30,
    )
    assert own.kubectl("get", "configmap", "inside", "-n", "ending").returncode != 0


def test_the_controller_manager_collects_what_a_deleted_owner_leaves(own: ControlPlane):
    own.kubectl("create", "configmap", "owner", check=True)
    uid = own.kubectl("get", "configmap", "owner", "-o", "jsonpath={.metadata.uid}", check=True).stdout
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    dependent = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "dependent", "ownerReferences": [reference]},
    }
    own.kubectl("create", "-f", "-", input=json.dumps(dependent), check=True)
    own.kubectl("delete", "configmap", "owner", check=True)
    until(
        lambda: own.kubectl("get", "configmap", "dependent").returncode != 0,
        "the dependent is gone",
        seconds=30,
    )


def test_leaving_the_block_stops_every_process_and_removes_every_file():
    with ControlPlane() as cluster:
        pids, scratch = list(cluster.pids.values()), cluster.kubeconfig.parent.parent
        assert alive(pids) == pids
    assert alive(pids) == []
    assert not scratch.exists()


def test_a_failing_block_keeps_the_logs_and_nothing_else(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(RuntimeError, match="a failing test"), ControlPlane() as cluster:
        raise RuntimeError("a failing test")
    assert str(cluster.log_dir) in capsys.readouterr().err
    assert (cluster.log_dir / "kube-apiserver.log").stat().st_size > 0
    assert [path.name for path in cluster.log_dir.parent.iterdir()] == ["logs"]
    cluster.stop()
    assert not cluster.log_dir.exists()


def test_it_survives_the_thread_that_started_it():
    cluster = ControlPlane()
    thread = threading.Thread(target=cluster.start)
    thread.start()
    thread.join()
    try:
        assert cluster.kubectl("get", "namespaces").returncode == 0
    finally:
        cluster.stop()


@pytest.mark.parametrize("place", [0, 1, 2], ids=["etcd client", "etcd peer", "API server"])
def test_a_port_that_another_process_takes_first_is_replaced_by_a_free_one(
    monkeypatch: pytest.MonkeyPatch, place: int
):
    free_ports = launch.free_ports
    with socket.create_server(("127.0.0.1", 0)) as thief:
        stolen = thief.getsockname()[1]
        ports = free_ports(3)
        ports[place] = stolen
        answers = iter([ports])
        monkeypatch.setattr(launch, "free_ports", lambda count: next(answers, None) or free_ports(count))
        with ControlPlane() as cluster:
            assert next(answers, None) is None, "the stolen port was not even tried"
            assert urlsplit(cluster.url).port != stolen
            assert cluster.kubectl("get", "namespaces").returncode == 0


def test_a_server_that_cannot_start_is_reported_in_one_line_with_the_place_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("etcd", "kube-apiserver"):
        (tmp_path / name).write_text("#!/bin/sh\necho no such flag >&2\nexit 2\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    cluster = ControlPlane(log_dir=tmp_path / "logs")
    with pytest.raises(
        ControlPlaneError, match=r"did not start: .* ended with 2: no such flag.*logs: .*logs\)"
    ) as raised:
        cluster.start()
    assert "\n" not in str(raised.value)


LAUNCHER = textwrap.dedent("""
    import json, time
    from controlplane import ControlPlane
    cluster = ControlPlane(with_controller_manager=True)
    cluster.start()
    guard = cluster._guard.pid
    pids = [*cluster.pids.values(), guard]
    print(json.dumps({"pids": pids, "data": str(cluster.kubeconfig.parent)}), flush=True)
    time.sleep(120)
""")


@pytest.mark.parametrize(
    ("victim", "number"),
    [
        ("launcher", signal.SIGKILL),
        ("launcher", signal.SIGTERM),
        ("launcher", signal.SIGINT),
        ("guard", signal.SIGKILL),
    ],
)
def test_no_process_outlives_a_killed(victim: str, number: signal.Signals, tmp_path: Path):
    environment = os.environ | {"PYTHONPATH": str(HACK), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", LAUNCHER],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as launcher:
        try:
            started = json.loads(launcher.stdout.readline())
            assert alive(started["pids"]) == started["pids"]
            os.kill(launcher.pid if victim == "launcher" else started["pids"][-1], number)
            until(lambda: not alive(started["pids"]), f"all of {started['pids']} are gone", seconds=10)
            if victim == "launcher":
                assert not Path(started["data"]).exists()
        finally:
            launcher.kill()


def test_up_prints_a_kubeconfig_that_works_until_it_is_stopped(tmp_path: Path):
    environment = os.environ | {"PYTHONPATH": str(HACK)}
    with subprocess.Popen(
        [sys.executable, "-m", "controlplane", "up"],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as up:
        try:
            kubeconfig = up.stdout.readline().strip().removeprefix("export KUBECONFIG=")
            with ExternalCluster(kubeconfig) as cluster:
                assert (
                    "namespace/default"
                    in cluster.kubectl("get", "namespaces", "-o", "name", check=True).stdout
                )
            up.send_signal(signal.SIGINT)
            assert up.wait(timeout=10) == 130
            assert not Path(kubeconfig).exists()
        finally:
            up.kill()


def test_an_existing_cluster_is_used_and_neither_stopped_nor_emptied(own: ControlPlane):
    with ExternalCluster(str(own.kubeconfig)) as cluster:
        assert (cluster.url, cluster.admin_token) == (own.url, own.admin_token)
        assert cluster.ca_file.read_bytes() == own.ca_file.read_bytes()
        cluster.create_namespace("made-from-outside")
    assert own.kubectl("get", "namespace", "made-from-outside").returncode == 0


def test_a_cluster_on_another_machine_is_refused_unless_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv(launch.ALLOW_REMOTE, raising=False)
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": "https://production.example:6443"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(config))
    with pytest.raises(
        ControlPlaneError, match=r"production\.example:6443, which is not on this machine.*=1"
    ):
        ExternalCluster(str(kubeconfig))
    monkeypatch.setenv(launch.ALLOW_REMOTE, "1")
    with ExternalCluster(str(kubeconfig)) as cluster:
        assert cluster.url == "https://production.example:6443"
