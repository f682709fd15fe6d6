"""The storage calls of the API: list, status, content.

Facts: PVE::API2::Storage::{Status,Content}. A volume is listed for whoever may access it; space is what the
node sees.
"""

from typing import Any

from fakepve.model import PveError

from .core import Core, Values, param_error
from .storage_snapshots import VolumeSnapshots


class Storages(VolumeSnapshots):
    """GET storage, storage/{storage}/status and content; DELETE content."""

    def _volumes(self, name: str) -> dict[str, Values]:
        """fakepve's view of a storage's contents, over all nodes (its uploads use it)."""
        store = self.storages[name]
        out: dict[str, Values] = dict(store.get("volumes", {}))
        for (sid, _), disks in self.disks.items():
            if sid == name:
                out |= {
                    volume.name: {
                        "content": volume.content,
                        "format": volume.format,
                        "size": volume.size,
                        "vmid": volume.vmid,
                        "ctime": volume.ctime,
                    }
                    for volume in disks.values()
                }
        return out

    def space(self, sid: str, node: str) -> tuple[int, int]:
        """(total, used) bytes as `node` sees them."""
        files = sum(int(item.get("size") or 0) for item in self.storages[sid].get("volumes", {}).values())
        return self.sizes[sid], self.used(sid, node) + files

    def storage_status(self, sid: str, node: str) -> Values:
        """The status of a storage on a node, as the node's storage list shows it."""
        store = self.storages[sid]
        enabled = bool(self._storage_enabled(sid, node))
        active = enabled and bool(store.get("active", 1))
        total, used = self.space(sid, node) if active else (0, 0)
        return {
            "type": store["type"],
            "content": store["content"],
            "enabled": int(enabled),
            "active": int(active),
            "shared": int(bool(store.get("shared"))),
            "total": total,
            "used": used,
            "avail": max(total - used, 0),
        }

    def _table_storage(self) -> list[tuple[str, str, Any]]:
        one = "/nodes/{node}/storage/{storage}"
        return [
            ("GET", "/nodes/{node}/storage", self._storage_list),
            ("GET", one + "/status", self._storage_status_get),
            ("GET", one + "/content", self._storage_content),
            ("DELETE", one + "/content/{volume}", self._volume_delete),
        ]

    async def _storage_list(self, v: Values, user: str) -> list[Values]:
        out = []
        for sid in sorted(self.storages):
            if not self._can_audit(user, sid) or (v.get("storage") and v["storage"] != sid):
                continue
            if not self._storage_enabled(sid, v["node"]):
                continue
            wanted = set((v.get("content") or "").split(",")) - {""}
            if wanted and not wanted & set(self.storages[sid]["content"].split(",")):
                continue
            status = self.storage_status(sid, v["node"])
            status |= {"used_fraction": status["used"] / status["total"]} if status["total"] else {}
            out.append(status | {"storage": sid})
        return out

    async def _storage_status_get(self, v: Values, user: str) -> Values:
        if v["storage"] not in self.storages:
            raise param_error(storage="No such storage.")
        return self.storage_status(v["storage"], v["node"])

    async def _storage_content(self, v: Values, user: str) -> list[Values]:
        sid, node = v["storage"], v["node"]
        store = self._active_store(sid, node)
        listed: dict[str, Values] = {}
        for name, item in store.get("volumes", {}).items():
            listed[name] = self._item(sid, name, item)
        for volume in self.disks_on(sid, node).values():
            item = {
                "content": volume.content,
                "format": volume.format,
                "size": volume.size,
                "ctime": volume.ctime,
            }
            listed[volume.name] = self._item(sid, volume.name, item | {"vmid": volume.vmid})
            if volume.base:
                listed[volume.name]["parent"] = volume.base
        out = []
        for item in listed.values():
            if v.get("content") and item["content"] != v["content"]:
                continue
            if v.get("vmid") is not None and item.get("vmid") != v["vmid"]:
                continue
            try:
                self._check_access(user, sid, item["content"], item.get("vmid"), item["volid"])
            except PveError:
                continue
            out.append(item)
        return sorted(out, key=lambda item: str(item["volid"]).lower())

    async def _volume_delete(self, v: Values, user: str) -> str | None:
        volname = v["volume"].partition(":")[2] or v["volume"]
        volid = f"{v['storage']}:{volname}"
        if volname not in self.disks_on(v["storage"], v["node"]):
            deleted: str | None = await Core._content_delete(self, v, user)
            return deleted
        self.require(user, f"/storage/{v['storage']}", "Datastore.Allocate")

        async def body() -> None:
            self.free(volid, v["node"])

        return await self.task(v["node"], "imgdel", f"{volname}@{v['storage']}", user, body)
