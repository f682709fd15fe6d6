"""A real Kubernetes node on this machine: kubelet, containerd and kube-proxy, with a control plane of its own.

For tests of what only a node shows: the image in a pod, probes, Pod Security, two replicas. One at a time on a
machine, as root; everything is undone at the end. Not here: NetworkPolicies (this CNI enforces none), cluster DNS,
storage, a way out for pods. `python -m node up` runs one for a person.
"""

from node.launch import Node
from node.machine import ADDRESS

__all__ = ["ADDRESS", "Node"]
