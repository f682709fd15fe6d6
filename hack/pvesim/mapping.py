"""Resource mappings: names for PCI and USB devices, with the device behind the name on each node.

Facts: PVE::API2::Cluster::Mapping::{PCI,USB} of pve-manager 9.2.11. The lists show what the caller holds
Mapping.Use, .Audit or .Modify on; `check-node` has that node answer, with what is wrong with each entry there.
"""

import hashlib
import json
from typing import Any

from fakepve.model import PveError

from .core import Values, die
from .ha_rules_api import HaRules
from .props import print_props

KINDS = ("pci", "usb")
SEES = ("Mapping.Modify", "Mapping.Use", "Mapping.Audit")


class Mappings(HaRules):
    """GET /cluster/mapping/{pci,usb} and one entry of them."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # kind -> id -> node -> what the map says of the device there
        self.mappings: dict[str, dict[str, dict[str, Values]]] = {kind: {} for kind in KINDS}
        # ids of PCI mappings whose devices can be migrated while they are in use
        self.live_mappings: set[str] = set()

    def _table_mapping(self) -> list[tuple[str, str, Any]]:
        routes: list[tuple[str, str, Any]] = []
        for kind in KINDS:
            base = f"/cluster/mapping/{kind}"
            routes += [
                ("GET", base, self._mapping_list(kind)),
                ("GET", base + "/{id}", self._mapping_get(kind)),
            ]
        return routes

    def _mapping_list(self, kind: str) -> Any:
        async def handler(v: Values, user: str) -> list[Values]:
            node = v.get("check-node")
            if node is not None and not self.online(node):
                raise PveError(595, "No route to host")
            out = []
            for name in sorted(self.mappings[kind]):
                if not any(self.allowed(user, f"/mapping/{kind}/{name}", priv) for priv in SEES):
                    continue
                entry = self._mapping_entry(kind, name)
                if node is not None:
                    missing = node not in self.mappings[kind][name]
                    text = f"No mapping for node {node}."
                    entry["checks" if kind == "pci" else "errors"] = (
                        [{"severity": "warning", "message": text}] if missing else []
                    )
                out.append(entry)
            return out

        return handler

    def _mapping_get(self, kind: str) -> Any:
        async def handler(v: Values, user: str) -> Values:
            if v["id"] not in self.mappings[kind]:
                raise die(f"mapping '{v['id']}' not found")
            entry = self._mapping_entry(kind, v["id"])
            del entry["id"]
            return entry

        return handler

    def _mapping_entry(self, kind: str, name: str) -> Values:
        nodes = self.mappings[kind][name]
        blob = json.dumps(self.mappings[kind], sort_keys=True).encode()
        return {
            "id": name,
            "type": kind,
            "map": [print_props({"node": node} | nodes[node]) for node in sorted(nodes)],
            "digest": hashlib.sha1(blob, usedforsecurity=False).hexdigest(),
        } | ({"live-migration-capable": 1} if name in self.live_mappings else {})

    def mapped_on(self, kind: str, name: str, node: str) -> bool:
        """True if the mapping names a device of this node."""
        return node in self.mappings[kind].get(name, {})
