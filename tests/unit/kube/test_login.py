"""Where credentials come from, in which order, and what a person reads where there are none."""

import json
from pathlib import Path

import kopf
import pytest
from kubernetes.aio.config import incluster_config

from proxmox_operator.kube.login import LoginFailed, bearer_token, connection, log_in


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def kubeconfig(path: Path, server: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": {"server": server}}],
                "users": [{"name": "u", "user": {"token": "t0ken"}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    return path


@pytest.fixture
def pod(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    token, ca = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("pod-token")
    ca.write_text("a certificate")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(ca))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    return token


async def test_a_given_kubeconfig_wins_over_the_environment_and_that_over_the_pod(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pod: Path
):
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "env", "https://env:6443")))
    given = kubeconfig(tmp_path / "given", "https://given:6443")
    assert (await log_in(given)).host == "https://given:6443"
    configuration = await log_in()
    assert configuration.host == "https://env:6443"
    assert await bearer_token(configuration) == "t0ken"


async def test_a_pod_uses_its_service_account_by_address_and_not_by_name(pod: Path):
    configuration = await log_in()
    assert configuration.host == "https://10.96.0.1:443"
    assert await bearer_token(configuration) == "pod-token"


async def test_on_a_desk_the_usual_kubeconfig_is_used(tmp_path: Path):
    kubeconfig(tmp_path / "home" / ".kube" / "config", "https://desk:6443")
    assert (await log_in()).host == "https://desk:6443"


async def test_without_credentials_a_person_reads_what_to_give(tmp_path: Path):
    with pytest.raises(LoginFailed, match="Give --kubeconfig or KUBECONFIG"):
        await log_in()
    with pytest.raises(LoginFailed, match="nowhere"):
        await log_in(tmp_path / "nowhere")


async def test_kopf_gets_the_same_credentials(tmp_path: Path):
    configuration = await log_in(kubeconfig(tmp_path / "k", "https://desk:6443"))
    info = kopf.ConnectionInfo(**await connection(configuration))
    assert (info.server, info.token, info.insecure) == ("https://desk:6443", "t0ken", False)
