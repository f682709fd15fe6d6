"""The storage calls of the API: list, status, and the content: its list, one volume's attributes, deletion.

Facts: PVE::API2::Storage::{Status,Content} and list_volumes of PVE::Storage::Plugin. A volume is listed for whoever
may access it, and deleted by whoever has Datastore.Allocate; space is what the node sees.
"""

from typing import Any

from fakepve.model import PveError

from . import images
from .core import Values, die, param_error
from .storage_files import FileVolumes
from .tasks import succeeded

LISTED_FOR_ANY_VM = frozenset({"import", "snippets"})
BLOCK = 512


class Storages(FileVolumes):
    """GET storage, storage/{storage}/status and content; GET and DELETE content/{volume}."""

    def _volumes(self, name: str) -> dict[str, Values]:
        """fakepve's view of a storage's contents, over all nodes (its containers use it)."""
        out: dict[str, Values] = {}
        for sid, node in {*self.disks, *self.files}:
            if sid == name:
                items = self._content_of(sid, node or next(iter(self.nodes)))
                out |= {item["volid"].partition(":")[2]: item for item in items}
        return out

    def storage_status(self, sid: str, node: str) -> Values:
        """The status of a storage on a node, as the node's storage list shows it."""
        store = self.storages[sid]
        enabled = bool(self._storage_enabled(sid, node))
        active = enabled and bool(store.get("active", 1))
        total, used = (self.sizes[sid], self.used(sid, node)) if active else (0, 0)
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
            ("GET", one + "/content/{volume}", self._volume_info),
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

    def _content_of(self, sid: str, node: str) -> list[Values]:
        """Everything the content list can show."""
        items = []
        for file in self.files_on(sid, node).values():
            fmt = images.listed_format(file.name)
            if fmt is not None:
                vol = {"content": file.content, "format": fmt, "size": file.size, "ctime": file.ctime}
                items.append(self._item(sid, file.name, vol))
        for volume in self.disks_on(sid, node).values():
            vol = {
                "content": volume.content,
                "format": volume.format,
                "size": volume.size,
                "ctime": volume.ctime,
            }
            item = self._item(sid, volume.name, vol | {"vmid": volume.vmid})
            items.append(item | ({"parent": volume.base} if volume.base else {}))
        return items

    async def _storage_content(self, v: Values, user: str) -> list[Values]:
        sid, node = v["storage"], v["node"]
        contents = set(self._active_store(sid, node)["content"].split(","))
        if v.get("content"):
            contents &= {v["content"]}
        out = []
        for item in self._content_of(sid, node):
            owner = v.get("vmid")
            if item["content"] not in contents:
                continue
            if owner is not None and item.get("vmid") != owner and item["content"] not in LISTED_FOR_ANY_VM:
                continue
            try:
                self._check_access(user, sid, item["content"], item.get("vmid"), item["volid"])
            except PveError:
                continue
            out.append(item)
        return sorted(out, key=lambda item: str(item["volid"]).lower())

    async def _volume_info(self, v: Values, user: str) -> Values:
        sid, name, volid, _, vtype, owner, _ = self._volume_target(v)
        self._check_access(user, sid, vtype, owner, volid)
        file, volume = self.file(volid, v["node"]), self.volume(volid, v["node"])
        if file is not None:
            size, fmt = self.image_size(sid, file), images.qemu_format(name)
            used = file.path.stat().st_blocks * BLOCK
        elif volume is not None:
            size, fmt, used = volume.size, volume.format, volume.size
        else:
            raise die(f"volume_size_info on '{volid}' failed - no format")
        if not size:
            raise die(f"volume '{volid}' has size zero")
        return {"path": self._volume_path(sid, name, vtype), "size": size, "format": fmt, "used": used}

    async def _volume_delete(self, v: Values, user: str) -> str | None:
        sid, name, volid, _, _, owner, _ = self._volume_target(v)
        node = v["node"]
        self.require(user, f"/storage/{sid}", "Datastore.Allocate")

        async def body() -> None:
            await self.work()
            self._active_store(sid, node)
            file = self.file(volid, node)
            if file is not None:
                self.remove_file(sid, node, file)
            elif self.volume(volid, node) is not None:
                self.free(volid, node)
            else:
                self.say(f"disk image '{self.file_path(sid, name)}' does not exist")
            self.say(f"Removed volume '{volid}'")

        upid = await self.task(node, "imgdel", f"{owner}@{sid}" if owner else sid, user, body)
        status = await self.ended_within(upid, v["delay"]) if v.get("delay") else None
        if status is None:
            return upid
        if succeeded(status):
            return None
        raise die(status)
