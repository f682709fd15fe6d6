"""HA resources, as far as a VM's membership goes; the manager's own work is a delay (see power.py).

Facts: PVE::API2::HA::Resources. Rules, groups and fencing are not simulated: fakepve answers samples.
"""

from typing import Any

from fakepve.model import PveError

from .core import Values, die
from .inventory import Inventory
from .model import SimVm


class HighAvailability(Inventory):
    """GET, POST, PUT, DELETE /cluster/ha/resources."""

    def _table_ha(self) -> list[tuple[str, str, Any]]:
        one = "/cluster/ha/resources/{sid}"
        return [
            ("GET", "/cluster/ha/resources", self._ha_list),
            ("POST", "/cluster/ha/resources", self._ha_add),
            ("GET", one, self._ha_read),
            ("PUT", one, self._ha_update),
            ("DELETE", one, self._ha_remove),
        ]

    def _ha_vm(self, sid: str) -> SimVm:
        kind, _, number = sid.rpartition(":")
        vm = self.vm(int(number)) if kind in ("", "vm") and number.isdigit() else None
        if vm is None:
            raise die(f"unable to detect SID from VMID - VM/CT {number} does not exist")
        return vm

    def _managed(self, sid: str, text: str) -> SimVm:
        """The managed VM behind a service id, which may have no config any more."""
        try:
            vm = self._ha_vm(sid)
        except PveError:
            raise die(text) from None
        if not vm.ha_managed:
            raise die(text)
        return vm

    @staticmethod
    def _entry(vm: SimVm) -> Values:
        return {"sid": f"vm:{vm.vmid}", "type": "vm", "state": vm.ha_state, "digest": "0" * 40}

    async def _ha_list(self, v: Values, user: str) -> list[Values]:
        return [self._entry(vm) for vm in self.vms if vm.ha_managed]

    async def _ha_read(self, v: Values, user: str) -> Values:
        return self._entry(self._managed(v["sid"], f"no such resource '{v['sid']}'"))

    async def _ha_add(self, v: Values, user: str) -> None:
        vm = self._ha_vm(v["sid"])
        if vm.ha_managed:
            raise die(f"resource ID 'vm:{vm.vmid}' already defined")
        vm.ha_state = v.get("state", "started")

    async def _ha_update(self, v: Values, user: str) -> None:
        vm = self._managed(v["sid"], f"no such resource '{v['sid']}'")
        vm.ha_state = v.get("state", vm.ha_state)

    async def _ha_remove(self, v: Values, user: str) -> None:
        vm = self._managed(v["sid"], f"cannot delete service '{v['sid']}', not HA managed!")
        vm.ha_state = None
