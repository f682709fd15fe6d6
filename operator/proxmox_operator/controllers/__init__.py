"""The controllers: one for each kind, and what puts them together (``manager``).

``observe`` reads, ``planning`` decides, ``apply`` does. Nothing here waits for a Proxmox task.
"""
