"""The status of one VMTemplate during one pass: what must be known after a crash is written at once."""

from collections.abc import Iterable
from typing import Any

from proxmox_operator.api import TemplateCopy, VMTemplate
from proxmox_operator.controllers.context import Context
from proxmox_operator.kube.client import Raw


class Record:
    """Owns the object as it was last written or read in this pass. Writes raise Outdated where it has changed since."""

    def __init__(self, context: Context, raw: Raw) -> None:
        self._context = context
        self.raw = raw
        self.template = VMTemplate.parse(raw)

    async def hold(self) -> None:
        """Have Kubernetes keep the object."""
        self._take(await self._context.status.add_finalizer(self.raw))

    async def release(self) -> None:
        """Let Kubernetes delete the object."""
        self._take(await self._context.status.drop_finalizer(self.raw))

    async def write(self, **changes: object) -> None:
        """Write these fields of the status now."""
        status = self.template.status.model_copy(update=changes)
        self._take(await self._context.status.write(self.raw, status.dump()))

    async def put(self, copies: Iterable[TemplateCopy], **changes: object) -> None:
        """Write these copies, in place of what was recorded of them; new ones come last."""
        new = {copy.vmid: copy for copy in copies}
        kept = [new.pop(copy.vmid, copy) for copy in self.template.status.copies]
        await self.write(copies=(*kept, *new.values()), **changes)

    async def change(self, copy: TemplateCopy, **fields: Any) -> TemplateCopy:
        """Write changed fields of one copy; returns it."""
        changed = copy.model_copy(update=fields)
        await self.put([changed])
        return changed

    async def drop(self, copy: TemplateCopy) -> None:
        """Forget one copy."""
        await self.write(copies=tuple(each for each in self.template.status.copies if each.vmid != copy.vmid))

    def event(self, reason: str, message: str, *, warning: bool = False) -> None:
        """Tell people who look at the object."""
        events = self._context.events
        (events.warning if warning else events.normal)(self.raw, reason, message)

    def _take(self, raw: Raw) -> None:
        self.raw = raw
        self.template = VMTemplate.parse(raw)
