"""What HA says of itself: `status/current` and `status/manager_status`.

Facts: PVE::API2::HA::Status and get_verbose_service_state of pve-ha-manager 5.2.0. `crm_state` is the manager's
state; `state` is what people are shown, which runs ahead of it.
"""

import time
from typing import Any

from .core import Values
from .ha_crm import Crm
from .ha_rules import Service, wish_of


class HighAvailability(Crm):
    """GET /cluster/ha/status/current and manager_status."""

    def _table_ha_status(self) -> list[tuple[str, str, Any]]:
        base = "/cluster/ha/status/"
        return [
            ("GET", base + "current", self._ha_current),
            ("GET", base + "manager_status", self._ha_manager),
        ]

    def _master(self) -> str:
        return next((node for node in self.nodes if self.online(node)), "")

    async def _ha_current(self, v: Values, user: str) -> list[Values]:
        now, local = int(time.time()), self._master()
        quorum = "OK" if self.quorate else f"No quorum on node '{local}'!"
        out: list[Values] = [
            {"id": "quorum", "type": "quorum", "node": local, "status": quorum, "quorate": int(self.quorate)}
        ]
        if self.ha_nodes:
            text = f"{local} (active, {time.ctime(now)})"
            out.append({"id": "master", "type": "master", "node": local, "status": text, "timestamp": now})
        for node in sorted(self.ha_nodes):
            text = f"{node} ({self._lrm_text(node)}, {time.ctime(now)})"
            out.append({"id": f"lrm:{node}", "type": "lrm", "node": node, "status": text, "timestamp": now})
        for sid in sorted({*self.ha_services, *self.ha_resources}):
            out.append(self._service_entry(sid))
        return out

    def _lrm_text(self, node: str) -> str:
        if node in self.ha_maintenance:
            return "maintenance mode, watchdog standby"
        if not self.online(node):
            return "old timestamp - dead?, watchdog standby"
        busy = any(service.node == node and service.state != "error" for service in self.ha_services.values())
        return "active, watchdog active" if busy else "idle, watchdog standby"

    def _service_entry(self, sid: str) -> Values:
        service, resource = self.ha_services.get(sid), self.ha_resources.get(sid)
        vm = self.vm(int(sid.removeprefix("vm:")))
        node = service.node if service is not None else vm.node if vm is not None else None
        out: Values = {"id": f"service:{sid}", "type": "service", "sid": sid}
        out |= {"node": node} if node else {}
        out |= {"crm_state": service.state} if service is not None else {}
        out["state"] = verbose_state(service, resource, exists=vm is not None)
        out["status"] = f"{sid} ({node or '---'}, {out['state']})"
        if resource is not None:
            out |= {"max_restart": 1, "max_relocate": 1} | ({"failback": 1} if self.pve >= 9 else {})
            out |= {key: value for key, value in resource.items() if key != "state"}
            out["request_state"] = wish_of(resource)
        return out

    async def _ha_manager(self, v: Values, user: str) -> Values:
        now = int(time.time())
        services = {sid: _status(service) for sid, service in self.ha_services.items()}
        manager: Values = {}
        if self.ha_nodes:
            manager = {"master_node": self._master(), "timestamp": now, "node_status": dict(self.ha_nodes)}
            manager["service_status"] = services
        modes = {node: "maintenance" if node in self.ha_maintenance else "active" for node in self.ha_nodes}
        return {
            "manager_status": manager,
            "quorum": {"node": self._master(), "quorate": int(self.quorate)},
            "lrm_status": {node: {"mode": mode, "timestamp": now} for node, mode in modes.items()},
        }


def _status(service: Service) -> Values:
    out: Values = {"state": service.state, "node": service.node, "uid": str(service.uid)}
    out |= {"running": 1} if service.running else {}
    out |= {"target": service.target} if service.target else {}
    out |= {"failed_nodes": list(service.failed_nodes)} if service.failed_nodes else {}
    return out | ({"maintenance_node": service.maintenance_node} if service.maintenance_node else {})


def verbose_state(service: Service | None, resource: Values | None, *, exists: bool) -> str:
    """get_verbose_service_state."""
    if resource is None:
        return "deleting"
    wish = wish_of(resource)
    if wish == "ignored":
        return "ignored"
    if not exists:
        return "not found"
    if service is None:
        return "queued"
    state = service.state
    if state == "stopped":
        return {"started": "starting", "disabled": "disabled"}.get(wish, state)
    if state == "started":
        if not service.running:
            return "starting"
        return "stopping" if wish in ("stopped", "disabled") else state
    return "clearing error flag" if state == "error" and wish == "disabled" else state
