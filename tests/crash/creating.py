"""Create: a ProxmoxCluster and a ProxmoxVM that no operator has seen yet, until the VM runs.

With a boot disk that grows, a data disk, a NIC, cloud-init and tags.
"""

from crash.scenario import Act, Scenario
from crash.stage import Stage


class Create(Scenario):
    name = "create"
    acts = (Act(do=Stage.apply, reached=Stage.is_ready, what="the VM is Ready"),)
