"""The operator's own account, with exactly the rights that the chart gives it: whatever a test has it do, it may do.

The rights are those of manifests/install, which is the chart with its defaults.
"""

from functools import cache
from pathlib import Path

import yaml

from controlplane import Cluster
from harness.operator import NAMESPACE

INSTALL = Path(__file__).resolve().parents[2] / "manifests" / "install" / "install.yaml"
ACCOUNT = "proxmox-operator"
KINDS = {"Namespace", "ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}


@cache
def operator_kubeconfig(cluster: Cluster) -> Path:
    """A kubeconfig of the ServiceAccount, which is made with its rights where it is not there yet."""
    manifests = [part for part in yaml.safe_load_all(INSTALL.read_text()) if part["kind"] in KINDS]
    cluster.kubectl(
        "apply",
        "--server-side",
        "--force-conflicts",
        "-f",
        "-",
        input=yaml.safe_dump_all(manifests),
        check=True,
    )
    return cluster.log_in_as(NAMESPACE, ACCOUNT)
