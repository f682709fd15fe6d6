"""The local resource manager: what a node does for the services that the manager has put on it.

Facts: PVE::HA::LRM (exec_resource_agent, handle_service_exitcode) and PVE::HA::Resources::PVEVM of
pve-ha-manager 5.2.0. Each order is carried out once, as a task of root@pam; a failed start is tried again
`max_restart` times before the manager hears of it. HA migrates with local disks and by force.
"""

from typing import Any

from fakepve.model import PveError, TaskError

from .access import ROOT
from .ha_rules import Service
from .inventory import Inventory
from .migrate_scan import Move

ORDERS = frozenset({"started", "request_stop", "stopped", "migrate", "relocate"})
STOP_TIMEOUT = 60
OK, ERROR, AGAIN = "ok", "error", "again"


class Lrm(Inventory):
    """The daemons on all online nodes."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.ha_tries: dict[str, int] = {}
        # Nodes whose daemon has stopped because the node is shutting down.
        self.lrm_stopped: set[str] = set()

    def lrm_round(self) -> None:
        """Take up the orders that are new."""
        for sid, service in self.ha_services.items():
            if service.given or service.state not in ORDERS or sid not in self.ha_resources:
                continue  # "missing resource configuration": the manager has yet to see that it was removed
            if self.online(service.node) and service.node not in self.lrm_stopped:
                service.given = True
                self.spawn(self._carry_out(sid, service, service.uid))

    async def _carry_out(self, sid: str, service: Service, uid: int) -> None:
        node, state = service.node, service.state
        try:
            result = await self._execute(sid, service)
        except (PveError, TaskError):
            result = ERROR
        if state == "started":
            result = self._retry(sid, result)
        if service.uid != uid or not self.online(node):
            return  # the manager has long decided otherwise
        if result == AGAIN:
            service.given = False
        else:
            service.result = result

    def _retry(self, sid: str, result: str) -> str:
        """The restart policy: an error is tried again before it is one."""
        tries = self.ha_tries.pop(sid, 0)
        if result == OK or tries >= int(self.ha_resources.get(sid, {}).get("max_restart", 1)):
            return result
        self.ha_tries[sid] = tries + 1
        return AGAIN

    async def _execute(self, sid: str, service: Service) -> str:
        vmid = int(sid.removeprefix("vm:"))
        vm = self.vm(vmid)
        if vm is None or vm.node != service.node:
            return ERROR
        where = {"node": service.node, "vmid": vmid}
        if service.state == "started":
            if not vm.running:
                await self.wait_for_task(await self.start_task(where, ROOT))
            return OK if vm.running else ERROR
        if service.state in ("request_stop", "stopped"):
            if vm.running:
                await self._stop(where, STOP_TIMEOUT if service.timeout is None else service.timeout)
            return ERROR if vm.running else OK
        if service.state == "relocate" and vm.running:
            await self._stop(where, STOP_TIMEOUT)
        target = str(service.target)
        move = Move(vm, service.node, target, online=True, with_local_disks=True, storages={}, force=True)
        self.check_lock(vm)
        await self.wait_for_task(await self.migrate_task(move, ROOT))
        return OK if vm.node == target else ERROR

    async def _stop(self, where: dict[str, Any], timeout: int) -> None:
        if timeout:
            upid = await self.shutdown_task(where | {"timeout": timeout, "forceStop": 1}, ROOT)
        else:
            upid = await self.stop_task(where, ROOT)
        await self.wait_for_task(upid)
