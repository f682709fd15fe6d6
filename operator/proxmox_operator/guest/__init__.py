"""What goes into a VM's operating system, and what it tells: the seed of its first boot, and how that went.

Not here: when any of it is done (``planning``), and the calls that carry it (``proxmox``).
"""
