"""Keeping VMTemplates: copies of an image, or of a VM, as Proxmox templates."""
