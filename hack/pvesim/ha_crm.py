"""The cluster resource manager: the state machine of every service, fencing and recovery, maintenance.

Facts: PVE::HA::Manager and PVE::HA::NodeStatus of pve-ha-manager 5.2.0. The manager looks every 10 s (scaled); a
node that is gone is fenced after 60 s and its lock is to be had after 120 s; then its services are taken over
(`steal_service` moves the config, and takes stale locks off), where the rules allow it. A service in `error`
stays there until it is asked to be `disabled`.
"""

import asyncio
import time
from typing import Any

from .core import Values
from .ha_lrm import OK, Lrm
from .ha_rules import Service, select_node, wish_of

ROUND = 10.0
FENCE_DELAY = 60.0
LOCK_TIMEOUT = 120.0
SHORTEST_ROUND = 0.01
REMOVABLE_LOCKS = frozenset(
    {
        "backup",
        "mounted",
        "migrate",
        "clone",
        "rollback",
        "snapshot",
        "snapshot-delete",
        "suspending",
        "suspended",
    }
)


class Crm(Lrm):
    """The manager, on whatever node."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.ha_last_seen: dict[str, float] = {}
        self.ha_maintenance: set[str] = set()

    async def ha_daemons(self) -> None:
        """The loops of both managers; runs while the simulator does."""
        while True:
            await asyncio.sleep(max(self.scaled(ROUND / 2), SHORTEST_ROUND))
            self.lrm_round()
            await asyncio.sleep(max(self.scaled(ROUND / 2), SHORTEST_ROUND))
            self.crm_round()

    def crm_round(self) -> None:
        """One look at everything; nothing without quorum, or before HA was ever used."""
        if not self.quorate or not (
            self.ha_resources or self.ha_services or self.ha_nodes or self.ha_maintenance
        ):
            return
        self._see_nodes()
        self._see_resources()
        self._read_commands()
        again = True
        while again:
            again = False
            for sid in sorted(self.ha_services):
                service = self.ha_services[sid]
                before = service.state
                getattr(self, f"_in_{before}")(sid, service, self._wish(sid))
                again = again or service.state != before
            again = self._fence() or again

    # ------------------------------------------------------------------- nodes

    def _see_nodes(self) -> None:
        now = time.monotonic()
        for node in self.nodes:
            state = self.ha_nodes.get(node, "unknown")
            if self.online(node):
                if state != "fence":
                    self.ha_last_seen[node] = now
                    state = "maintenance" if node in self.ha_maintenance else "online"
            elif state in ("online", "maintenance"):
                state = "unknown"
            self.ha_nodes[node] = state

    def ha_online(self) -> list[str]:
        """The nodes that services may be put on."""
        return [node for node, state in self.ha_nodes.items() if state == "online"]

    def _gone_for(self, node: str, seconds: float) -> bool:
        """node_is_offline_delayed."""
        if self.ha_nodes[node] in ("online", "maintenance"):
            return False
        return time.monotonic() - self.ha_last_seen.setdefault(node, time.monotonic()) >= self.scaled(seconds)

    def _fence(self) -> bool:
        """Fence the nodes of services in `fence`; true if one was fenced and its services can be recovered."""
        fenced = False
        for service in self.ha_services.values():
            if service.state != "fence":
                continue
            self.ha_nodes[service.node] = "fence"
            if self._gone_for(service.node, LOCK_TIMEOUT):
                service.order("recovery")
                fenced = True
        for node in {service.node for service in self.ha_services.values() if service.state == "recovery"}:
            if self.ha_nodes[node] == "fence":
                self.ha_nodes[node] = "unknown"
        return fenced

    # ---------------------------------------------------------------- services

    def _see_resources(self) -> None:
        for sid, resource in self.ha_resources.items():
            vm = self.vm(int(sid.removeprefix("vm:")))
            if sid not in self.ha_services and wish_of(resource) != "ignored" and vm is not None:
                state = "request_start" if wish_of(resource) == "started" else "request_stop"
                self.ha_services[sid] = Service(state, vm.node)
        for sid in [sid for sid in self.ha_services if self._wish(sid) == "ignored"]:
            del self.ha_services[sid]

    def _resource(self, sid: str) -> Values:
        return self.ha_resources.get(sid, {})

    def _wish(self, sid: str) -> str:
        return wish_of(self.ha_resources.get(sid))

    def _read_commands(self) -> None:
        commands, self.ha_commands = self.ha_commands, []
        for verb, sid, argument in commands:
            service = self.ha_services.get(sid)
            if service is None:
                continue
            if verb == "stop":
                service.command = (verb, argument)
            elif argument in self.ha_online() and argument != service.node:
                self._queue_motion(verb, sid, argument)

    def _queue_motion(self, verb: str, sid: str, target: str) -> None:
        """A service takes those that must be with it along, and stays if one that must not be is there."""
        vm = self.vm(int(sid.removeprefix("vm:")))
        if vm is None:
            return
        together, blocking = self.motion_info(vm)
        if target in blocking:
            return
        for other in [sid, *together]:
            self.ha_services[other].command = (verb, target)

    def _node_for(self, sid: str, preference: str) -> str | None:
        resource = self._resource(sid)
        return select_node(
            self.active_rules(),
            self.ha_services,
            sid,
            preference=preference,
            failback=str(resource.get("failback", 1)) == "1",
            online=self.ha_online(),
            nodes=list(self.nodes),
        )

    def _to_fence(self, service: Service) -> bool:
        if self._gone_for(service.node, FENCE_DELAY):
            service.order("fence")
            return True
        return False

    # ------------------------------------------------------------------ states

    def _in_fence(self, sid: str, service: Service, wish: str) -> None:
        """Nothing but to wait until the node is fenced."""

    def _in_request_start(self, sid: str, service: Service, wish: str) -> None:
        service.order("started")

    def _in_request_stop(self, sid: str, service: Service, wish: str) -> None:
        if service.result is not None:
            service.order("stopped" if service.result == OK else "error")
        else:
            self._to_fence(service)

    def _in_migrate(self, sid: str, service: Service, wish: str) -> None:
        if service.result is None:
            self._to_fence(service)
            return
        if service.result == OK:
            service.node = str(service.target)
        service.order("started" if wish == "started" else "request_stop")

    _in_relocate = _in_migrate

    def _in_stopped(self, sid: str, service: Service, wish: str) -> None:
        vm = self.vm(int(sid.removeprefix("vm:")))
        service.node = vm.node if vm is not None else service.node
        command, service.command = service.command, None
        moves = command is not None and command[0] != "stop"
        if command is not None and moves and command[1] in self.ha_online() and command[1] != service.node:
            service.order(command[0], target=command[1])
            return
        if wish == "disabled" or self._to_fence(service):
            return
        if wish == "started":
            service.order("request_start")

    def _in_error(self, sid: str, service: Service, wish: str) -> None:
        if wish == "disabled":
            service.failed_nodes = []
            service.order("stopped")

    def _in_recovery(self, sid: str, service: Service, wish: str) -> None:
        target = self._node_for(sid, "best-score")
        vm = self.vm(int(sid.removeprefix("vm:")))
        if target is None or vm is None:
            if wish == "disabled":
                service.failed_nodes = []
                service.order("stopped")
            return
        if vm.lock in REMOVABLE_LOCKS:
            vm.lock = None
        vm.node = service.node = target
        service.order("started" if wish == "started" else "request_stop")

    def _in_started(self, sid: str, service: Service, wish: str) -> None:
        state = self.ha_nodes[service.node]
        if state not in ("online", "maintenance"):
            self._to_fence(service)
            return
        if state == "maintenance":
            service.maintenance_node = service.node
        if wish != "started":
            service.order("request_stop")
            return
        if service.command is not None:
            self._obey(sid, service)
            return
        preference = self._judge_start(sid, service)
        if preference is None:
            return
        target = self._node_for(sid, preference)
        if target is not None and target != service.node:
            if service.maintenance_node in (target, None) or service.node != service.maintenance_node:
                service.maintenance_node = None
            service.order("migrate", target=target)
            return
        if service.maintenance_node == service.node and state == "online":
            service.maintenance_node = None
        if service.result is not None:
            service.renew()

    def _obey(self, sid: str, service: Service) -> None:
        verb, argument = service.command or ("", "")
        service.command = None
        if verb == "stop":
            self.ha_resources[sid]["state"] = "stopped"
            service.order("request_stop", timeout=int(argument))
        elif argument in self.ha_online() and argument != service.node:
            service.order(verb, target=argument)

    def _judge_start(self, sid: str, service: Service) -> str | None:
        """What the last start says about where to go; None if the service has become an error."""
        if service.result is None:
            return "none"
        if service.result == OK:
            service.failed_nodes = []
            service.running = True
            return "none"
        service.running = False
        service.failed_nodes.append(service.node)
        if len(service.failed_nodes) <= int(self._resource(sid).get("max_relocate", 1)):
            return "try-next"
        service.order("error")
        return None
