"""What happens to the cluster around the VMs: storages, nodes, quorum, HA, rights, and a failing API."""

from typing import Any

from .gui_base import GuiBase
from .ha_rules import Service


class ClusterActions(GuiBase):
    """The surroundings of VMs, changed by others."""

    def add_storage(self, sid: str, kind: str, **options: Any) -> None:
        """See `Storages.add_storage`: size_gib, content, nodes, shared."""
        self.call(lambda: self.server.add_storage(sid, kind, **options))

    def add_mapping(self, kind: str, name: str, nodes: list[str], *, live: bool = False) -> None:
        """A resource mapping (`pci` or `usb`) with a device on each of `nodes`; `live`: it can be migrated in
        use."""

        def change() -> None:
            device = {"id": "10de:1eb8"} | ({"path": "0000:01:00.0"} if kind == "pci" else {})
            self.server.mappings[kind][name] = {node: dict(device) for node in nodes}
            if live:
                self.server.live_mappings.add(name)

        self.call(change)

    def fill_storage(self, sid: str, *, free_gib: float = 0.0, node: str = "pve1") -> None:
        """Shrink the storage's size until only `free_gib` is left (seen from `node`)."""

        def change() -> None:
            self.server.sizes[sid] = self.server.used(sid, node) + int(free_gib * 1024**3)

        self.call(change)

    def resize_storage(self, sid: str, size_gib: float) -> None:
        """Set the storage's size."""
        self.call(lambda: self.server.sizes.__setitem__(sid, int(size_gib * 1024**3)))

    def storage_offline(self, sid: str, offline: bool = True) -> None:
        """The storage does not answer: `storage 'x' is not online`."""
        self.call(lambda: self.server.storages[sid].__setitem__("active", int(not offline)))

    # ------------------------------------------------------------------ nodes

    def node_down(self, node: str) -> None:
        """Power loss of a node; see `Server.node_down`."""
        self.run(self.server.node_down(node))

    def node_up(self, node: str) -> None:
        """The node comes back and starts its onboot VMs."""
        self.run(self.server.node_up(node))

    def shutdown_node(self, node: str) -> None:
        """A clean shutdown: HA stops its services, stopall by root@pam the others, then the node is gone."""
        self.run(self.server.stop_services(node))
        self.wait_task(self.run(self.server.stop_all(node)))
        self.node_down(node)

    def stop_all(self, node: str) -> str:
        """`Bulk Shutdown`, or a node on its way down: returns the UPID of the stopall at once."""
        return self.run(self.server.stop_all(node))

    def start_all(self, node: str) -> str:
        """`Bulk Start` of the VMs with onboot: returns the UPID of the startall at once."""
        return self.run(self.server.start_all(node))

    def migrate_all(self, node: str, target: str) -> None:
        """`Bulk Migrate` of a node: a migrateall by root@pam, which moves one VM after the other."""
        self.finish(self.server.migrate_all(node, target))

    def set_capacity(self, node: str, *, cpus: int | None = None, memory_gib: float | None = None) -> None:
        """Change a node's processors or memory."""
        info = self.server.node_info[node]
        info.cpus = cpus or info.cpus
        info.memory = int(memory_gib * 1024**3) if memory_gib is not None else info.memory

    def lose_quorum(self) -> None:
        """The whole cluster loses quorum: reads work, writes are refused."""
        self.call(self.server.lose_quorum)

    def regain_quorum(self) -> None:
        """Undo lose_quorum()."""
        self.call(self.server.regain_quorum)

    # --------------------------------------------------------------------- HA

    def set_ha(self, vmid: int, state: str | None, **options: Any) -> None:
        """Put the VM under HA with a state (`started`, `stopped` ...) and options, or take it out; the manager
        has taken notice at once."""

        def change() -> None:
            sid = f"vm:{vmid}"
            if state is None:
                self.server.leave_ha(sid, purge=True)
                self.server.ha_services.pop(sid, None)
                return
            vm = self.vm(vmid)
            self.server.ha_resources[sid] = {"state": state, **options}
            self.server.ha_services[sid] = Service("started" if state == "started" else "stopped", vm.node)

        self.call(change)

    def maintenance(self, node: str, on: bool = True) -> None:
        """`ha-manager crm-command node-maintenance enable|disable`."""

        def change() -> None:
            (self.server.ha_maintenance.add if on else self.server.ha_maintenance.discard)(node)

        self.call(change)

    def add_ha_group(self, name: str, nodes: str, *, restricted: bool = False) -> None:
        """An HA group, as version 8 has them: `nodes` is `pve1:2,pve2`."""
        self.call(
            lambda: self.server.ha_groups.__setitem__(name, {"nodes": nodes, "restricted": int(restricted)})
        )

    # ----------------------------------------------------------------- access

    def grant(self, authid: str, path: str, privs: list[str]) -> None:
        """Add privileges on a path. A first entry there *replaces* what was inherited, as in Proxmox VE."""
        self.call(lambda: self.server.add_acl(authid, path, privs))

    def revoke(self, authid: str, path: str, privs: list[str] | None = None) -> None:
        """Take privileges (None: all) away on a path and below it."""
        self.call(lambda: self.server.drop_acl(authid, path, privs))

    def add_token(self, authid: str, secret: str, *, privsep: bool = True) -> None:
        """Create a token, or change its secret."""
        self.call(lambda: self.server.add_token(authid, secret, privsep=privsep))

    def remove_token(self, authid: str) -> None:
        """Delete a token."""
        self.call(lambda: self.server.remove_token(authid))

    def add_pool(self, name: str) -> None:
        """Create an empty pool."""
        self.call(lambda: self.server.pools.setdefault(name, set()))

    def fail(self, method: str, path: str, status: int, message: str, *, times: int | None = None) -> None:
        """Answer calls whose path ends with `path` (or a schema path with {braces}) with an error."""
        self.call(lambda: self.server.fail(method, path, status, message, times=times))

    def slow_api(self, seconds: float) -> None:
        """Every answer is late by `seconds` real seconds; 0 undoes it."""
        self.server.api_latency = seconds

    def clear_failures(self) -> None:
        """Undo all fail()."""
        self.call(self.server.failures.clear)
