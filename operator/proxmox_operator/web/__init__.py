"""The only door to web servers that the author of an object names.

They are strangers: see fetch.py for what is refused. Knows nothing of Proxmox and Kubernetes.
"""
