"""The seed of a VM's first boot: made from the spec and its Secrets, uploaded, and removed when it is spent.

Uploading and deleting are both idempotent, as the name on the storage is the VM's own: after a crash or a lost answer
they are done again. The user data is in memory for as long as a pass needs it, and nowhere else. When any of it is done
is decided in ``planning.lifecycle.seeding``.
"""

import hashlib
from dataclasses import replace

from proxmox_operator.api import ProxmoxVM, SeedStatus
from proxmox_operator.controllers.context import Context
from proxmox_operator.controllers.fleet import Member
from proxmox_operator.controllers.vm.availability import Record, Tell
from proxmox_operator.controllers.vm.memory import Memory
from proxmox_operator.controllers.vm.power import Working
from proxmox_operator.errors import Forbidden, NeedsHuman, OperatorError, Transient, Waiting
from proxmox_operator.guest.seed import checked, empty_image, network_text, seed_image
from proxmox_operator.planning.access import Access
from proxmox_operator.planning.lifecycle import Facts, Present
from proxmox_operator.planning.seed import (
    Location,
    Seed,
    has_user_data,
    is_seed,
    location,
    made_from,
    meta_data,
    network_config,
    storage_of,
)
from proxmox_operator.planning.vmconfig import macs
from proxmox_operator.proxmox.permissions import Feature, Scope, remedy
from proxmox_operator.proxmox.session import ClusterSession

CLEANING = ("RemovingSeed", "EmptyingSeed")
"""Actions of the tasks that take user data off its storage."""

MOST_FAILURES = 5
"""How often removing a seed may fail of what may pass, before it is left where it is."""


class SeedReader:
    """For one object in one pass."""

    def __init__(
        self, context: Context, member: Member, session: ClusterSession, access: Access, memory: Memory
    ) -> None:
        self._context = context
        self._member = member
        self._session = session
        self._access = access
        self._memory = memory

    async def refuse_unfit(self, vm: ProxmoxVM) -> None:
        """What would keep a seed from being made is said before a VM is. Raises NeedsHuman, which names the field."""
        if has_user_data(vm):
            self._storage(vm)
            await self._user_data(vm)

    async def seed(self, vm: ProxmoxVM, present: Present | None) -> Seed | None:
        """The seed as it is; before the first start also as it has to be. Raises NeedsHuman, which names the field."""
        record = self._memory.seed_of(vm)
        config = self._memory.config if present is not None else None
        if record is None and not has_user_data(vm):
            return None
        vmid = vm.status.vmid or 0
        drives = [*config.current.values(), *config.raw.values()] if config is not None else []
        attached = any(is_seed(value.partition(",")[0], vmid) for value in drives)
        seed = Seed(record=record, attached=attached, kept=self._memory.seed_kept)
        if present is None or config is None or vm.status.started or not has_user_data(vm):
            return seed
        if present.power != "Stopped":
            return seed  # a guest may be reading it
        if vm.metadata.deletion_timestamp is not None or present.diff.writes or present.diff.problems:
            return seed
        storage = self._storage(vm)
        wanted = location(vm, storage, present.node, shared=is_shared(self._session, storage, present.node))
        there = record is not None and record.phase == "Uploaded" and wanted.is_of(record)
        current = there and self._memory.seed_sent == digest(await self.image(vm))
        return replace(seed, wanted=wanted, current=current)

    async def image(self, vm: ProxmoxVM) -> bytes:
        """What the guest is to read, with the MAC addresses that its config has."""
        config, init = self._memory.config, vm.spec.cloud_init
        network = init.network_data if init is not None else None
        if network is None and config is not None:
            network = network_text(network_config(vm, macs(config.raw)))
        return seed_image(await self._user_data(vm), meta_data(vm), network)

    def _storage(self, vm: ProxmoxVM) -> str:
        storage = storage_of(vm, self._access.seed_storage)
        if storage is None:
            message = (
                "spec.cloudInit.seedStorage: name a storage that takes ISO images, or set defaults.seedStorage on the "
                "ProxmoxCluster"
            )
            raise NeedsHuman(message, reason="StorageNotChosen")
        scope = Scope(storages=(storage,), features=(Feature.SEED,))
        if (missing := remedy(self._member.granted, scope, self._member.major or 0)) is not None:
            raise Forbidden(f"spec.cloudInit: the user data cannot be uploaded: {missing}")
        return storage

    async def _user_data(self, vm: ProxmoxVM) -> bytes:
        init = vm.spec.cloud_init
        if init is None or init.user_data_secret_ref is None:
            text = init.user_data if init is not None else None
            return checked((text or "").encode(), "spec.cloudInit.userData")
        field, reference = "spec.cloudInit.userDataSecretRef", init.user_data_secret_ref
        try:
            secret = await self._context.secrets.get(vm.metadata.namespace, reference.name)
            (value,) = secret.require(reference.key)
        except NeedsHuman as error:
            raise type(error)(f"{field}: {error.message}", reason=error.reason) from None
        return checked(value, field)


class SeedWriter:
    """Carries out the steps that concern the seed, for one object in one pass."""

    def __init__(
        self,
        context: Context,
        session: ClusterSession,
        memory: Memory,
        reader: SeedReader,
        *,
        record: Record,
        working: Working,
        tell: Tell,
    ) -> None:
        self._context = context
        self._session = session
        self._memory = memory
        self._reader = reader
        self._record = record
        self._working = working
        self._tell = tell

    async def put(self, facts: Facts) -> None:
        """Upload it, or again, as what was uploaded is not known. Raises NeedsHuman where the storage is not fit."""
        vm, wanted = facts.vm, facts.seed.wanted if facts.seed is not None else None
        if wanted is None:
            raise AssertionError("planned only where it is known what is wanted")
        image = await self._reader.image(vm)
        self._refuse_storage(wanted, len(image))
        self._memory.seed_kept, self._memory.seed_failures = False, 0
        self._tell(vm, "Seeding", f"uploading the user data to storage {wanted.storage} for the first boot")
        seed = SeedStatus(
            volume=wanted.volume,
            node=wanted.node,
            phase="Uploading",
            since=self._context.now(),
            made_from=made_from(vm),
        )
        await self._upload(vm, seed, image, "Seeding", becomes="Uploaded")

    async def drop(self, facts: Facts) -> None:
        """Delete it; where that is not allowed, or a snapshot refers to it, overwrite it with one that is empty."""
        try:
            await self._remove(facts)
        except OperatorError as error:
            self.drop_failed(facts.vm, error)

    def drop_failed(self, vm: ProxmoxVM, error: OperatorError) -> None:
        """It stays where it is, and that is told: a cleaning that fails keeps nobody from anything else.

        Raises the error where another attempt may do better.
        """
        seed = self._memory.seed_of(vm)
        if isinstance(error, Transient):
            self._memory.seed_failures += 1
        passes = isinstance(error, Transient) and self._memory.seed_failures < MOST_FAILURES
        if seed is None or passes or isinstance(error, Waiting):
            raise error
        self._memory.seed_kept = True
        message = (
            f"{seed.volume} could not be removed ({error.message}): once that is mended, remove it on node "
            f"{seed.node} with `pvesm free {seed.volume}`"
        )
        self._tell(vm, "SeedLeft", message, warning=True)

    async def _remove(self, facts: Facts) -> None:
        vm, seed = facts.vm, self._memory.seed_of(facts.vm)
        if seed is None:
            raise AssertionError("planned only where a seed is on record")
        node = self._node(seed, facts)
        if isinstance(facts.existence, Present) and await self._snapshots(vm, facts.existence.node, seed):
            await self._empty(vm, seed, node, "a snapshot of the VM refers to it")
            return
        try:
            upid = await self._session.files.delete(node, seed.volume)
        except Forbidden as error:
            if seed.phase == "Emptied":
                raise
            await self._empty(vm, seed, node, error.message)
            return
        gone = seed.model_copy(update={"phase": "Removed", "since": self._context.now()})
        self._memory.seed_sent = None
        if upid is None:
            self._memory.written["seed"] = gone
            return
        await self._working("RemovingSeed", upid, vm)
        if self._memory.work is not None:
            self._memory.work.seed = gone

    async def note_boot(self, vm: ProxmoxVM) -> None:
        """Record that the first boot is over."""
        await self._record(cloud_init_done=True)
        self._tell(vm, "CloudInitDone", "cloud-init has finished the first boot")

    async def _empty(self, vm: ProxmoxVM, seed: SeedStatus, node: str, why: str) -> None:
        begun = seed.model_copy(update={"node": node, "phase": "Emptying", "since": self._context.now()})
        message = (
            f"the user data was not deleted, but overwritten with an empty image: {why}; remove it with `pvesm free "
            f"{seed.volume}`"
        )
        await self._upload(vm, begun, empty_image(meta_data(vm)), "EmptyingSeed", becomes="Emptied")
        if self._memory.work is not None:
            self._memory.work.warnings = (("SeedEmptied", message),)

    async def _upload(
        self, vm: ProxmoxVM, seed: SeedStatus, image: bytes, action: str, *, becomes: str
    ) -> None:
        """The intent is recorded first: who finds it uploads again, and lets go of nothing before a late call came."""
        self._memory.written.pop("seed", None)
        self._memory.seed_sent = None
        await self._record(seed=seed)
        place = Location(volume=seed.volume, node=seed.node)
        upid = await self._session.files.upload_iso(place.node, place.storage, place.file_name, image)
        await self._working(action, upid, vm)
        if self._memory.work is not None:
            self._memory.work.seed = seed.model_copy(update={"phase": becomes})
            self._memory.work.seed_digest = digest(image)

    async def _snapshots(self, vm: ProxmoxVM, node: str, seed: SeedStatus) -> bool:
        found = await self._session.vms.snapshots(node, vm.status.vmid or 0)
        return any(
            value.partition(",")[0] == seed.volume for config in found.values() for value in config.values()
        )

    def _node(self, seed: SeedStatus, facts: Facts) -> str:
        """The node to remove it through: the one that has it, or the VM's where all have it."""
        here = facts.existence.node if isinstance(facts.existence, Present) else facts.vm.status.node
        storage = seed.volume.partition(":")[0]
        return here if here is not None and is_shared(self._session, storage, here) else seed.node

    def _refuse_storage(self, wanted: Location, size: int) -> None:
        """Looked at when a VM is placed, too; it may have changed since, and a VM may have been moved."""
        inventory, name = self._session.inventory.current, wanted.storage
        storage = inventory.storages.get((name, wanted.node)) if inventory is not None else None
        if storage is None or not storage.available:
            message = (
                f"storage {name} is not available on node {wanted.node}: enable it there, or name another one"
            )
            raise NeedsHuman(f"spec.cloudInit.seedStorage: {message}", reason="StorageNotFound")
        if "iso" not in storage.content:
            message = f"storage {name} takes no ISO images: add iso to its content, or name another one"
            raise NeedsHuman(f"spec.cloudInit.seedStorage: {message}", reason="StorageNotUsable")
        if storage.free is not None and storage.free < size:
            message = f"storage {name} is full on node {wanted.node}: make room there, or name another one"
            raise NeedsHuman(f"spec.cloudInit.seedStorage: {message}", reason="StorageFull")


def is_shared(session: ClusterSession, storage: str, node: str) -> bool:
    """Whether other nodes have the storage of this node, too."""
    inventory = session.inventory.current
    found = inventory.storages.get((storage, node)) if inventory is not None else None
    return found is not None and found.shared


def digest(image: bytes) -> str:
    """By which this process knows an image again; it is never shown."""
    return hashlib.sha256(image).hexdigest()
