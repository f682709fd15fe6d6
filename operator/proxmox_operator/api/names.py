"""Names that are part of the API: group, annotations, finalizer, field manager."""

GROUP = "proxmox-operator.io"
VERSION = "v1alpha1"
CATEGORY = "proxmox"

FINALIZER = f"{GROUP}/finalizer"
FIELD_MANAGER = "proxmox-operator"

PAUSED = f"{GROUP}/paused"
"""Annotation: ``"true"`` stops reconciling the object (a ProxmoxCluster: all of its VMs)."""

RESTART = f"{GROUP}/restart"
"""Annotation: a token; another value than the last one restarts the VM once, gracefully, pending changes included."""

MOVE_TO = f"{GROUP}/move-to"
"""Annotation: a node; another value than the last one moves the VM there once."""
