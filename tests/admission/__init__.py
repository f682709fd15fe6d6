"""Right and wrong manifests (``good/``, ``bad/``), and everything in a CRD that can refuse one."""
