"""What a new VM can be made from: the VM that its source names, or the copies of a VMTemplate.

A VM on its way keeps the source that was recorded for it as long as that is there. Not here: which of several is taken
(``planning.placement``), and making copies, which is the VMTemplate's own part.
"""

from proxmox_operator.api import (
    Clone,
    InvalidObject,
    Provisioning,
    ProxmoxVM,
    TemplateCopy,
    TemplateRef,
    VMTemplate,
)
from proxmox_operator.controllers.context import TEMPLATE_KIND, Context
from proxmox_operator.controllers.fleet import Member
from proxmox_operator.engine.queue import Key
from proxmox_operator.errors import NeedsHuman, NotReadYet, Unreachable, Waiting
from proxmox_operator.planning.identity import signs_of
from proxmox_operator.planning.placement import Node, Template, copies_to_come, current_copies, shortcoming
from proxmox_operator.proxmox.errors import NotHere
from proxmox_operator.proxmox.resources import Guest
from proxmox_operator.proxmox.session import ClusterSession

_FIELD = "spec.source.templateRef.name"


class Sources:
    """For one object in one pass. Configs are at most a minute old."""

    def __init__(self, context: Context, member: Member, session: ClusterSession) -> None:
        self._context = context
        self._member = member
        self._session = session

    async def made(self, vm: ProxmoxVM) -> list[Template]:
        """Everything that it can be cloned from now: one, or of a VMTemplate any number.

        Raises NeedsHuman (TemplateNotFound, TemplateElsewhere, TemplateDeleting) and what reading raises.
        """
        cloned = _cloned(vm)
        if isinstance(cloned, Clone):
            return [await self._named(cloned)]
        template, found = self._usable(cloned), []
        unread: Unreachable | None = None
        for copy in current_copies(template):
            try:
                found.append(await self._copy(template, copy))
            except Unreachable as error:
                unread = error
        if unread is not None and not any(found):
            raise unread
        return [each for each in found if each is not None]

    def to_come(self, vm: ProxmoxVM, made: list[Template], nodes: list[Node]) -> list[Template]:
        """Copies of its VMTemplate that may still be made for it.

        Raises Waiting (TemplatePending) where there is none to come on a node of its choice, nor one made.
        """
        cloned = _cloned(vm)
        if isinstance(cloned, Clone):
            return []
        template = self._usable(cloned)
        source = self._guest(template.spec.from_vm.vmid) if template.spec.from_vm is not None else None
        found = copies_to_come(
            template,
            made,
            nodes,
            storage=self._member.cluster.spec.defaults.storage,
            source=source.node if source is not None else None,
        )
        if made or found:
            return found
        name, why = template.metadata.name, shortcoming(template)
        if offline := [each.node for each in current_copies(template) if self._is_offline(each.node)]:
            message = f"node {offline[0]}, which holds a copy of VMTemplate {name}, is offline"
            raise Unreachable(message, reason="NodeUnavailable")
        raise Waiting(
            f"VMTemplate {name} has no copy that can be cloned yet" + (f": {why}" if why else ""),
            reason="TemplatePending",
            after=300.0,
        )

    async def recorded(self, vm: ProxmoxVM, intent: Provisioning) -> Template | None:
        """What was recorded for it, of whichever version; None where that is no longer there.

        Raises what reading raises: what cannot be read for the moment is not gone.
        """
        cloned, found = _cloned(vm), None
        if isinstance(cloned, Clone):
            found = await self._named(cloned)
        elif (template := self._template(cloned)) is not None:
            for copy in template.status.copies:
                if (copy.vmid, copy.state) == (intent.source_vmid, "Ready"):
                    found = await self._copy(template, copy)
        return found if found is not None and found.node == intent.source_node else None

    # A VM that is named

    async def _named(self, clone: Clone) -> Template:
        """Raises NeedsHuman (TemplateNotFound) where the credentials see no such VM; one that was just made is found
        at the next poll of the inventory."""
        guest = self._guest(clone.vmid)
        if guest is None:
            message = (
                f"spec.source.clone.vmid: there is no VM {clone.vmid} to clone, or the credentials may not see it: "
                f"create the template, or grant VM.Audit and VM.Clone on /vms/{clone.vmid}"
            )
            raise NeedsHuman(message, reason="TemplateNotFound")
        if self._is_offline(guest.node):
            message = f"node {guest.node}, which holds template {clone.vmid}, is offline"
            raise Unreachable(message, reason="NodeUnavailable")
        return await self._read(guest)

    # The copies of a VMTemplate

    def _usable(self, ref: TemplateRef) -> VMTemplate:
        template, name = self._template(ref), ref.name
        if template is None:
            message = f"{_FIELD}: there is no VMTemplate {name}: create it, or name one that exists"
            raise NeedsHuman(message, reason="TemplateNotFound")
        asked = template.spec.cluster_ref
        cluster = template.status.cluster or (asked.name if asked is not None else None)
        if cluster not in (None, self._member.name):
            message = (
                f"{_FIELD}: VMTemplate {name} is in ProxmoxCluster {cluster}, and this VM in {self._member.name}: make "
                f"another ProxmoxVM that names a VMTemplate of {self._member.name}"
            )
            raise NeedsHuman(message, reason="TemplateElsewhere")
        if template.metadata.deletion_timestamp is not None:
            message = f"{_FIELD}: VMTemplate {name} is being deleted: create it anew, or name another in a new object"
            raise NeedsHuman(message, reason="TemplateDeleting")
        return template

    def _template(self, ref: TemplateRef) -> VMTemplate | None:
        """The VMTemplate as it is known now; None where there is none."""
        store = self._context.store
        raw = store.get(Key(TEMPLATE_KIND, "", ref.name))
        if raw is None:
            if not store.listed(TEMPLATE_KIND):
                raise NotReadYet("the VMTemplates have not been listed yet")
            return None
        try:
            return VMTemplate.parse(raw)
        except InvalidObject as error:
            raise NeedsHuman(
                f"{_FIELD}: VMTemplate {ref.name}: {error.message}", reason=error.reason
            ) from None

    async def _copy(self, template: VMTemplate, copy: TemplateCopy) -> Template | None:
        """None where its node is offline, someone has removed it, or another VM has its VMID now."""
        guest = self._guest(copy.vmid)
        if guest is None or self._is_offline(guest.node):
            return None
        found = await self._read(guest, name=template.metadata.name, version=copy.version)
        signs = signs_of(found.config)
        known = {each.lower() for each in (signs.uuid, signs.mark.uuid if signs.mark else None) if each}
        return found if found.is_template and copy.uuid.lower() in known else None

    # What both need

    def _guest(self, vmid: int) -> Guest | None:
        inventory = self._session.inventory.current
        guest = inventory.guests.get(vmid) if inventory is not None else None
        return guest if guest is not None and guest.type == "qemu" else None

    def _is_offline(self, name: str) -> bool:
        inventory = self._session.inventory.current
        node = inventory.nodes.get(name) if inventory is not None else None
        return node is not None and not node.online

    async def _read(self, guest: Guest, *, name: str | None = None, version: str | None = None) -> Template:
        try:
            config = await self._session.template_config(guest.node, guest.vmid)
        except NotHere as error:
            self._session.inventory.poke()
            message = f"template {guest.vmid} is moving: {error.message}"
            raise Unreachable(message, reason="TemplateMoving") from error
        return Template(
            vmid=guest.vmid,
            node=guest.node,
            is_template=config.is_template,
            config=config.raw,
            name=name,
            version=version,
        )


def _cloned(vm: ProxmoxVM) -> Clone | TemplateRef:
    if vm.spec.source.cloned is None:
        raise AssertionError("asked only for a VM that is cloned")
    return vm.spec.source.cloned
