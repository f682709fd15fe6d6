"""What etcd, the API server and the controller manager are told: loopback only, light, nothing kept."""

from pathlib import Path


def etcd_flags(data: Path, client: int, peer: int) -> list[str]:
    return [
        f"--data-dir={data}",
        "--name=default",
        "--unsafe-no-fsync",  # the data is thrown away
        "--log-level=warn",
        f"--listen-client-urls=http://127.0.0.1:{client}",
        f"--advertise-client-urls=http://127.0.0.1:{client}",
        f"--listen-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-cluster=default=http://127.0.0.1:{peer}",
    ]


def apiserver_flags(certs: Path, tokens: Path, key: Path, etcd: int, secure: int) -> list[str]:
    return [
        f"--etcd-servers=http://127.0.0.1:{etcd}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={secure}",
        f"--cert-dir={certs}",
        f"--token-auth-file={tokens}",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--endpoint-reconciler-type=none",  # nobody reaches it through a Service
        "--disable-admission-plugins=ServiceAccount",
        "--enable-priority-and-fairness=false",
        "--max-requests-inflight=3000",
        "--max-mutating-requests-inflight=1000",
        "--profiling=false",
    ]


def audit_flags(policy: Path, log: Path) -> list[str]:
    """Have the API server record who did what, for tests of rights."""
    return [f"--audit-policy-file={policy}", f"--audit-log-path={log}", "--audit-log-mode=blocking"]


def controller_manager_flags(data: Path, kubeconfig: Path) -> list[str]:
    return [
        f"--kubeconfig={kubeconfig}",
        f"--cert-dir={data / 'controller-manager'}",
        "--bind-address=127.0.0.1",
        "--secure-port=0",
        "--leader-elect=false",
        "--controllers=namespace-controller,garbage-collector-controller,"
        "serviceaccount-controller,clusterrole-aggregation-controller",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
    ]
