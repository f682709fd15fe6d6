"""A real Kubernetes API server for tests, the demo and the benchmark: etcd and kube-apiserver as processes.

No nodes, no scheduler, no pods: it stores, validates, watches and (with the controller manager) deletes
namespaces and collects garbage. `python -m controlplane up` runs one for a person.
"""

from controlplane.build import ControlPlaneError
from controlplane.launch import Cluster, ControlPlane, ExternalCluster, open_cluster

__all__ = ["Cluster", "ControlPlane", "ControlPlaneError", "ExternalCluster", "open_cluster"]
