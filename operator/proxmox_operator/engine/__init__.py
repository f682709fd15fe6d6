"""What moves the controllers and knows none of them: queue, object store, election, metrics, health,
settings, logs.

Not here: anything of Kubernetes or Proxmox; the few things needed from them are Protocols.
"""
