"""The only door to Proxmox VE: transport, client, inventory, tasks, typed VM calls, one session per cluster.

Decides nothing about what a VM should be (that is ``planning``) and knows nothing of Kubernetes.
"""
