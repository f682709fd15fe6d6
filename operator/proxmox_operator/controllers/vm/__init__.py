"""The ProxmoxVM controller, split by verb: ``reconcile`` is the loop, ``observe`` reads, ``apply`` does."""
