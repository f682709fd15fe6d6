"""What a cluster says about itself: resources (fresh or stale), nodes, status, free ids, certificates.

Facts: PVE::API2::Cluster, PVE::API2Tools::extract_vm_stats, PVE::API2::Certificates. In /cluster/resources
vmid, node, lock and tags are immediate; status, name, template and load come from pvestatd's loop (10 s)
through a cached dump (2 s) and are dropped after 5 minutes: such a VM is `unknown` and has no name.
`staleness` is the loop's length in real seconds, 0 for always fresh; the other two times keep their
proportion to it.
"""

import asyncio
import itertools
import time
from typing import Any

from .core import Node, Values, die, param_error
from .migrate_worker import Migration
from .model import SimVm
from .pki import authority, node_certificate

GIB = 1024**3
REAL_STALENESS = 10.0


class Inventory(Migration):
    """The cluster-wide reads, and the reads about a node."""

    def __init__(self, *, staleness: float, cluster: str, key_usage: bool, **settings: Any) -> None:
        super().__init__(**settings)
        self.staleness = staleness
        self.cluster_name = cluster
        self.key_usage = key_usage
        self._stats: dict[int, tuple[float, Values]] = {}
        self._dump: dict[int, tuple[float, Values]] = {}
        self._dump_at = 0.0
        # Set on the copy that a cut-off node answers with: what it knew when it lost contact.
        self.frozen_stats: dict[int, Values] | None = None
        self.boot_time = time.time()

    def _table_inventory(self) -> list[tuple[str, str, Any]]:
        return [
            ("GET", "/version", self._version_get),
            ("GET", "/nodes", self._nodes_get),
            ("GET", "/cluster/resources", self._resources_get),
            ("GET", "/cluster/status", self._cluster_status_get),
            ("GET", "/cluster/nextid", self._nextid_get),
            ("GET", "/cluster/config/join", self._join_get),
            ("GET", "/nodes/{node}/status", self._node_status),
            ("GET", "/nodes/{node}/network", self._network_get),
            ("GET", "/nodes/{node}/certificates/info", self._certificates),
            ("GET", "/nodes/{node}/qemu", self._node_vms),
        ]

    async def _version_get(self, v: Values, user: str) -> Values:
        return {"version": self.version, "release": self.release_version, "repoid": "0123456789abcdef"}

    # ------------------------------------------------------------------- stats

    def _current_stats(self, vm: SimVm) -> Values:
        usage = self.vm_usage(vm)
        usage |= {
            "name": vm.name,
            "status": vm.status,
            "template": int(vm.template),
            "maxcpu": self.vm_cpus(vm),
        }
        return usage

    async def pvestatd(self) -> None:
        """The loop of the daemons on all online nodes; runs while the simulator does."""
        while self.staleness > 0:
            now = time.monotonic()
            for vm in list(self.vms):
                if self.online(vm.node):
                    self._stats[vm.vmid] = (now, self._current_stats(vm))
            await asyncio.sleep(self.staleness)

    def stats_of(self, vm: SimVm) -> Values:
        """What /cluster/resources knows of a VM's state; empty is `unknown`."""
        if self.frozen_stats is not None:
            return self.frozen_stats.get(vm.vmid, {})
        if self.staleness <= 0:
            return self._current_stats(vm) if self.online(vm.node) else {}
        now = time.monotonic()
        if now - self._dump_at > self.staleness / 5:
            self._dump, self._dump_at = dict(self._stats), now
        at, stats = self._dump.get(vm.vmid, (0.0, {}))
        return stats if now - at < self.staleness * 30 else {}

    # --------------------------------------------------------------- resources

    async def _resources_get(self, v: Values, user: str) -> list[Values]:
        kind = v.get("type")
        out: list[Values] = []
        if kind in (None, "pool"):
            out += [
                {"id": f"/pool/{name}", "pool": name, "type": "pool"}
                for name in sorted(self.pools)
                if self.allowed(user, f"/pool/{name}", "Pool.Audit")
            ]
        if kind in (None, "vm"):
            out += [
                self._vm_resource(vm, user)
                for vm in sorted(self.vms, key=lambda vm: vm.vmid)
                if self.allowed(user, f"/vms/{vm.vmid}", "VM.Audit")
            ]
            out += self.ct_resources(user, kind)
        if kind in (None, "node"):
            out += [self._node_resource(node, user) for node in self.node_info.values()]
        if kind in (None, "storage"):
            for sid, node in itertools.product(sorted(self.storages), sorted(self.nodes)):
                if self.allowed(user, f"/storage/{sid}", "Datastore.Audit") and self._storage_enabled(
                    sid, node
                ):
                    out.append(self._storage_entry(sid, node))
        return out

    def _vm_resource(self, vm: SimVm, user: str) -> Values:
        out = {"id": f"qemu/{vm.vmid}", "vmid": vm.vmid, "node": vm.node, "type": "qemu", "status": "unknown"}
        out |= self.stats_of(vm)
        pool = self.pool_of(vm.vmid)
        if pool and self.allowed(user, f"/pool/{pool}", "Pool.Audit"):
            out["pool"] = pool
        for key in ("lock", "tags"):
            if vm.config.get(key):
                out[key] = vm.config[key]
        sid = f"vm:{vm.vmid}"
        if sid in self.ha_services:
            out["hastate"] = self.ha_services[sid].state
        elif sid in self.ha_resources:
            out["hastate"] = self.ha_resources[sid]["state"]
        return out

    def _used_memory(self, node: Node) -> int:
        running = (vm for vm in self.vms if vm.node == node.name and vm.running)
        return node.memory_used + sum(int(self.vm_usage(vm)["maxmem"]) for vm in running)

    def _node_resource(self, node: Node, user: str) -> Values:
        online = self.online(node.name)
        out: Values = {"id": f"node/{node.name}", "node": node.name, "type": "node", "level": ""}
        out["status"] = "online" if online else "offline"
        if node.name in self.ha_nodes:
            out["hastate"] = self.ha_nodes[node.name]
        if self.allowed(user, f"/nodes/{node.name}", "Sys.Audit"):
            out |= {"maxcpu": node.cpus, "maxmem": node.memory, "maxdisk": 64 * GIB}
            if online:
                out |= {
                    "cpu": 0.05,
                    "mem": min(self._used_memory(node), node.memory),
                    "disk": 8 * GIB,
                    "uptime": int(time.time() - self.boot_time) + 3600,
                }
        return out

    def _storage_entry(self, sid: str, node: str) -> Values:
        status = self.storage_status(sid, node)
        available = self.online(node) and status["active"]
        out = {
            "id": f"storage/{node}/{sid}",
            "type": "storage",
            "storage": sid,
            "node": node,
            "shared": status["shared"],
            "content": status["content"],
            "plugintype": status["type"],
            "status": "available" if available else "unknown",
        }
        return out | ({"maxdisk": status["total"], "disk": status["used"]} if available else {})

    async def _node_vms(self, v: Values, user: str) -> list[Values]:
        out = []
        for vm in self.vms:
            if vm.node == v["node"] and self.allowed(user, f"/vms/{vm.vmid}", "VM.Audit"):
                item = self.vm_usage(vm) | {
                    "vmid": vm.vmid,
                    "name": vm.name,
                    "status": vm.status,
                    "cpus": self.vm_cpus(vm),
                }
                item |= {key: vm.config[key] for key in ("lock", "tags") if vm.config.get(key)}
                out.append(
                    item | ({"template": 1} if vm.template else {}) | ({"pid": vm.pid} if vm.running else {})
                )
        return out

    async def _nextid_get(self, v: Values, user: str) -> str:
        if v.get("vmid") is not None:
            if self.guest(v["vmid"]) is not None:
                raise param_error(vmid=f"VM {v['vmid']} already exists")
            return str(v["vmid"])
        for vmid in range(100, 1_000_000):
            if self.guest(vmid) is None:
                return str(vmid)
        raise die("unable to get any free VMID in range [100, 1000000]")

    # ------------------------------------------------------------------- nodes

    async def _nodes_get(self, v: Values, user: str) -> list[Values]:
        out = []
        for node in self.node_info.values():
            item = self._node_resource(node, user)
            item["ssl_fingerprint"] = node_certificate(
                self.cluster_name, node.name, key_usage=self.key_usage
            ).fingerprint
            out.append(item)
        return out

    async def _cluster_status_get(self, v: Values, user: str) -> list[Values]:
        out: list[Values] = [
            {
                "type": "cluster",
                "id": "cluster",
                "name": self.cluster_name,
                "nodes": len(self.nodes),
                "quorate": int(self.quorate),
                "version": 3,
            }
        ]
        for number, name in enumerate(self.nodes, 1):
            out.append(
                {
                    "type": "node",
                    "id": f"node/{name}",
                    "name": name,
                    "nodeid": number,
                    "ip": f"192.0.2.{10 + number}",
                    "online": int(self.online(name)),
                    "local": int(name == self.answering.get()),
                    "level": "",
                }
            )
        return out

    async def _node_status(self, v: Values, user: str) -> Values:
        node = self.node_info[v["node"]]
        used = min(self._used_memory(node), node.memory)
        return {
            "pveversion": f"pve-manager/{self.version}/0123456789abcdef",
            "uptime": int(time.time() - self.boot_time) + 3600,
            "cpu": 0.05,
            "wait": 0,
            "loadavg": ["0.10", "0.12", "0.09"],
            "kversion": "Linux 6.14.11-1-pve",
            "cpuinfo": {
                "cpus": node.cpus,
                "cores": node.cpus // 2,
                "sockets": 1,
                "model": "pvesim",
                "hvm": "1",
                "user_hz": 100,
                "flags": "vmx aes",
                "mhz": "2400",
            },
            "memory": {
                "total": node.memory,
                "used": used,
                "free": node.memory - used,
                "available": node.memory - used,
            },
            "swap": {"total": 0, "used": 0, "free": 0},
            "rootfs": {"total": 64 * GIB, "used": 8 * GIB, "free": 56 * GIB, "avail": 56 * GIB},
        }

    async def _network_get(self, v: Values, user: str) -> list[Values]:
        if v.get("type") not in (None, "bridge", "any_bridge", "any_local_bridge", "include_sdn"):
            return []
        out = []
        for bridge in self.node_info[v["node"]].bridges:
            if any(
                self.allowed(user, f"/sdn/zones/localnetwork/{bridge}", priv)
                for priv in ("SDN.Use", "SDN.Audit")
            ):
                out.append(
                    {
                        "iface": bridge,
                        "type": "bridge",
                        "active": 1,
                        "autostart": 1,
                        "method": "manual",
                        "method6": "manual",
                        "families": ["inet"],
                        "priority": 3,
                    }
                )
        return out

    async def _certificates(self, v: Values, user: str) -> list[Values]:
        ca = authority(self.cluster_name, key_usage=self.key_usage)
        leaf = node_certificate(self.cluster_name, v["node"], key_usage=self.key_usage)
        return [ca.info("pve-root-ca.pem"), leaf.info("pve-ssl.pem")]

    async def _join_get(self, v: Values, user: str) -> Values:
        local = self.answering.get()
        nodes = [
            {
                "name": name,
                "nodeid": number,
                "pve_addr": f"192.0.2.{10 + number}",
                "quorum_votes": 1,
                "pve_fp": node_certificate(self.cluster_name, name, key_usage=self.key_usage).fingerprint,
            }
            for number, name in enumerate(self.nodes, 1)
        ]
        totem = {"cluster_name": self.cluster_name, "config_version": "3", "version": "2"}
        return {"config_digest": "0" * 40, "preferred_node": local, "nodelist": nodes, "totem": totem}
