"""The only door to Kubernetes: reads, status and metadata writes, events, secrets, the Lease.

Not here: watching (kopf is the informer) and any decision about what to write.
"""
