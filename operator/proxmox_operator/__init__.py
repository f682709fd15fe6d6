"""A Kubernetes operator that keeps Proxmox VE virtual machines as their manifests describe them."""

__version__ = "0.1.0"
