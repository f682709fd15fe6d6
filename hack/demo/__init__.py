"""`python -m demo`: a real API server, a simulated Proxmox cluster and the operator, shown to a newcomer.

`stage`, `processes`, `simulator` and `kube` are also what the benchmark runs on. Not here: anything tests rely on.
"""
