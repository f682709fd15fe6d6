"""What the programs of a node are told, as flags and files.

Where the settings differ from what a cluster has, it is so that they run in a container or small virtual machine: with
cgroup v1 or v2, without CAP_SYS_RESOURCE, and leaving the machine as it is as far as they can.
"""

import json
from pathlib import Path

from node.machine import ADDRESS, NETWORK, POD_BRIDGE, SOCKET, STATE

NODE = "node"
SERVICES, API_SERVICE, PODS = "10.96.0.0/24", "10.96.0.1", "10.244.0.0/24"


def apiserver_flags(data: Path, etcd: int, secure: int) -> list[str]:
    return [
        f"--etcd-servers=http://127.0.0.1:{etcd}",
        f"--bind-address={ADDRESS}",
        f"--advertise-address={ADDRESS}",
        f"--secure-port={secure}",
        f"--tls-cert-file={data / 'apiserver.crt'}",
        f"--tls-private-key-file={data / 'apiserver.key'}",
        f"--token-auth-file={data / 'tokens.csv'}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={data / 'service-account.key'}",
        f"--service-account-signing-key-file={data / 'service-account.key'}",
        f"--service-cluster-ip-range={SERVICES}",
        f"--kubelet-client-certificate={data / 'kubelet-client.crt'}",
        f"--kubelet-client-key={data / 'kubelet-client.key'}",
        "--kubelet-preferred-address-types=InternalIP",
    ]


def manager_flags(data: Path, kubeconfig: Path) -> list[str]:
    return [
        f"--kubeconfig={kubeconfig}",
        "--secure-port=0",
        "--leader-elect=false",
        "--use-service-account-credentials",
        f"--root-ca-file={data / 'ca.crt'}",
        f"--service-account-private-key-file={data / 'service-account.key'}",
    ]


def scheduler_flags(kubeconfig: Path) -> list[str]:
    return [f"--kubeconfig={kubeconfig}", "--secure-port=0", "--leader-elect=false"]


def kubelet_flags(data: Path, kubeconfig: Path) -> list[str]:
    settings = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": ADDRESS,
        "authentication": {"x509": {"clientCAFile": str(data / "ca.crt")}, "anonymous": {"enabled": False}},
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "enforceNodeAllocatable": ["pods"],
        "evictionHard": {"memory.available": "200Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "failCgroupV1": False,
        "failSwapOn": False,
        "healthzPort": 0,
        "makeIPTablesUtilChains": False,
        "oomScoreAdj": 0,
        "podLogsDir": str(STATE / "logs"),
        "registerNode": True,
        "seccompDefault": True,
        "volumePluginDir": str(STATE / "plugins"),
    }
    return [
        f"--config={_written(data / 'kubelet.json', settings)}",
        f"--kubeconfig={kubeconfig}",
        f"--cert-dir={STATE / 'kubelet-pki'}",
        f"--hostname-override={NODE}",
        f"--node-ip={ADDRESS}",
        f"--root-dir={STATE / 'kubelet'}",
    ]


def proxy_flags(data: Path, kubeconfig: Path, healthz: int, metrics: int) -> list[str]:
    settings = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "clusterCIDR": PODS,
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "healthzBindAddress": f"127.0.0.1:{healthz}",
        "hostnameOverride": NODE,
        "metricsBindAddress": f"127.0.0.1:{metrics}",
        "mode": "nftables",
        "nodePortAddresses": [f"{ADDRESS}/32"],
        "oomScoreAdj": 0,
    }
    return [f"--config={_written(data / 'kube-proxy.json', settings)}"]


def containerd_flags(sandbox: str) -> list[str]:
    networks = STATE / "networks"
    networks.mkdir()
    bridge = {
        "type": "bridge",
        "bridge": POD_BRIDGE,
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(STATE / "addresses"),
            "ranges": [[{"subnet": PODS}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    _written(networks / "pods.conflist", {"cniVersion": "0.4.0", "name": NETWORK, "plugins": [bridge]})
    settings = STATE / "containerd.toml"
    settings.write_text(CONTAINERD.format(state=STATE, socket=SOCKET, sandbox=sandbox, networks=networks))
    return [f"--config={settings}"]


CONTAINERD = """\
version = 2
root = "{state}/containerd/root"
state = "{state}/containerd/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{sandbox}"
  disable_apparmor = true
  netns_mounts_under_state_dir = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      Root = "{state}/runc"
      SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{networks}"
"""


def _written(path: Path, settings: object) -> Path:
    path.write_text(json.dumps(settings, indent=1))
    return path
