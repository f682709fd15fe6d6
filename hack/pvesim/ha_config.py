"""HA resources and groups: what people ask of HA. The manager's own work is in ha_crm.py and ha_lrm.py.

Facts: PVE::API2::HA::Resources and PVE::HA::Config of pve-ha-manager 5.2.0. An `ignored` resource is
configured but not managed. A resource whose service is in `error` takes no other wish than `disabled`. Rules
are version 9's, groups version 8's: there they act as a node affinity.
"""

import hashlib
import json
import re
from typing import Any

from .core import Values, die, param_error
from .ha_rules import Rule, Service, companions, wish_of
from .model import SimVm
from .task_lists import TaskLists

RESOURCE_OPTIONS = ("state", "max_restart", "max_relocate", "comment", "group", "failback", "auto-rebalance")
CONFLICT = "detected modified configuration - file changed by other user? Try again."


class HaConfig(TaskLists):
    """/cluster/ha/resources and groups."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.ha_resources: dict[str, Values] = {}
        self.ha_rules: dict[str, Rule] = {}
        self.ha_groups: dict[str, Values] = {}
        self.ha_services: dict[str, Service] = {}
        # What the manager says of the nodes, once HA was used: online, maintenance, unknown, fence
        self.ha_nodes: dict[str, str] = {}
        # Requests to the manager: (migrate|relocate|stop, sid, node or time-out)
        self.ha_commands: list[tuple[str, str, str]] = []

    def _table_ha_config(self) -> list[tuple[str, str, Any]]:
        resources = "/cluster/ha/resources"
        return [
            ("GET", resources, self._ha_list),
            ("POST", resources, self._ha_add),
            ("GET", resources + "/{sid}", self._ha_read),
            ("PUT", resources + "/{sid}", self._ha_update),
            ("DELETE", resources + "/{sid}", self._ha_remove),
            ("POST", resources + "/{sid}/migrate", self._ha_move("migrate")),
            ("POST", resources + "/{sid}/relocate", self._ha_move("relocate")),
            ("GET", "/cluster/ha/groups", self._ha_groups_list),
        ]

    # ---------------------------------------------------------------- look-ups

    def ha_managed(self, vm: SimVm) -> bool:
        """vm_is_ha_managed: power and migration are the manager's."""
        return wish_of(self.ha_resources.get(f"vm:{vm.vmid}")) != "ignored"

    def ha_status(self, vm: SimVm) -> Values:
        """The `ha` part of a VM's status; the state is the manager's, null until it has taken notice."""
        if not self.ha_managed(vm):
            return {"managed": 0}
        service = self.ha_services.get(f"vm:{vm.vmid}")
        return {"managed": 1, "state": service.state if service else None}

    def active_rules(self) -> dict[str, Rule]:
        """The rules that count: version 9's, or the groups of version 8 as what they mean."""
        if self.pve >= 9:
            return self.ha_rules
        out: dict[str, Rule] = {}
        for name, group in self.ha_groups.items():
            members = {sid for sid, found in self.ha_resources.items() if found.get("group") == name}
            nodes = parse_nodes(group["nodes"])
            out[name] = Rule("node-affinity", members, nodes, strict=bool(group.get("restricted")))
        return out

    def motion_info(self, vm: SimVm) -> tuple[list[str], dict[str, list[Values]]]:
        """get_resource_motion_info: the services that HA moves along, and {node: services in the way}."""
        together, separate = companions(self.active_rules(), f"vm:{vm.vmid}")
        blocking: dict[str, list[Values]] = {}
        for sid in sorted(separate & set(self.ha_services)):
            service = self.ha_services[sid]
            for node in {service.node, service.target} - {None}:
                blocking.setdefault(str(node), []).append({"sid": sid, "cause": "resource-affinity"})
        return sorted(together & set(self.ha_services)), blocking

    def _sid(self, text: str) -> str:
        """parse_sid: `vm:100`, or `100` alone."""
        if text.startswith("vm:"):
            return text
        if text.isdigit() and self.vm(int(text)) is not None:
            return f"vm:{text}"
        raise die(f"unable to detect SID from VMID - VM/CT {text} does not exist")

    def _digest(self) -> str:
        blob = json.dumps(self.ha_resources, sort_keys=True).encode()
        return hashlib.sha1(blob, usedforsecurity=False).hexdigest()

    # --------------------------------------------------------------- resources

    def _entry(self, sid: str) -> Values:
        if sid not in self.ha_resources:
            raise die(f"no such resource '{sid}'")
        return {"sid": sid, "type": "vm", "digest": self._digest()} | self.ha_resources[sid]

    async def _ha_list(self, v: Values, user: str) -> list[Values]:
        return [self._entry(sid) for sid in sorted(self.ha_resources)]

    async def _ha_read(self, v: Values, user: str) -> Values:
        return self._entry(self._sid(v["sid"]))

    def _checked(self, v: Values) -> Values:
        given = {key: v[key] for key in RESOURCE_OPTIONS if key in v}
        if self.pve >= 9 and "group" in given:
            raise die("invalid parameter 'group': ha groups have been migrated to rules")
        if self.pve < 9 and "failback" in given:
            text = "property is not defined in schema and the schema does not allow additional properties"
            raise param_error(failback=text)
        if given.get("group") and given["group"] not in self.ha_groups:
            raise die(f"HA group '{given['group']}' does not exist")
        return given

    async def _ha_add(self, v: Values, user: str) -> None:
        sid = self._sid(v["sid"])
        given = self._checked(v)
        if self.vm(int(sid.removeprefix("vm:"))) is None:
            raise die(f"resource '{sid}' does not exist in cluster")
        if sid in self.ha_resources:
            raise die(f"resource ID '{sid}' already defined")
        self.ha_resources[sid] = given

    async def _ha_update(self, v: Values, user: str) -> None:
        sid = self._sid(v["sid"])
        given = self._checked(v)
        self.check_service_state(sid, given.get("state"))
        if v.get("digest") and v["digest"] != self._digest():
            raise die(CONFLICT)
        if sid not in self.ha_resources:
            raise die(f"no such resource '{sid}'")
        self.ha_resources[sid] |= given
        for key in re.split(r"[,; ]+", v.get("delete") or ""):
            if key and key not in RESOURCE_OPTIONS:
                raise die(f"no such option '{key}'")
            self.ha_resources[sid].pop(key, None)

    async def _ha_remove(self, v: Values, user: str) -> None:
        sid = self._sid(v["sid"])
        if sid not in self.ha_resources:
            raise die(f"cannot delete service '{sid}', not HA managed!")
        self.leave_ha(sid, purge=bool(v.get("purge", 1)))

    def leave_ha(self, sid: str, *, purge: bool) -> None:
        """delete_service_from_config: the VM stays as it is; `purge` takes it out of the rules too."""
        self.ha_resources.pop(sid, None)
        if not purge:
            return
        for rule in self.ha_rules.values():
            rule.resources.discard(sid)
        self.ha_rules = {name: rule for name, rule in self.ha_rules.items() if rule.resources}

    def check_service_state(self, sid: str, wanted: str | None) -> None:
        """A service in `error` must be disabled first."""
        service = self.ha_services.get(sid)
        if service is not None and service.state == "error" and wanted != "disabled":
            raise die(f"service '{sid}' in error state, must be disabled and fixed first")

    def _ha_move(self, verb: str) -> Any:
        async def handler(v: Values, user: str) -> Values:
            sid = self._sid(v["sid"])
            self.queue_move(verb, sid, v["node"])
            vm = self.vm(int(sid.removeprefix("vm:")))
            together, blocking = self.motion_info(vm) if vm is not None else ([], {})
            out: Values = {"sid": sid, "requested-node": v["node"]}
            out |= {"comigrated-resources": together} if together else {}
            return out | ({"blocking-resources": blocking[v["node"]]} if v["node"] in blocking else {})

        return handler

    def queue_move(self, verb: str, sid: str, node: str) -> None:
        """`ha-manager migrate`: the manager reads the request in its next round."""
        if wish_of(self.ha_resources.get(sid)) == "ignored":
            raise die(f"resource '{sid}' is not HA managed")
        self.check_service_state(sid, None)
        self.ha_commands.append((verb, sid, node))

    async def _ha_groups_list(self, v: Values, user: str) -> list[Values]:
        if self.pve >= 9:
            raise die("cannot index groups: ha groups have been migrated to rules")
        return [
            {"group": name, "type": "group", "digest": self._digest()} | self.ha_groups[name]
            for name in sorted(self.ha_groups)
        ]


def parse_nodes(text: str) -> dict[str, int]:
    """`n1:2,n2` as {node: priority}."""
    out = {}
    for part in re.split(r"[,; ]+", text):
        node, _, priority = part.partition(":")
        out[node] = int(priority or 0)
    return out
