"""Uploading images for nodes that do not reach the URL: the operator fetches the file and passes it on as it comes.

An upload takes minutes, so it is a job of its own, beside the passes over objects: one at a time for each place, a few
for each cluster. Nothing of it is on record: after a crash it begins anew, as Proxmox drops what it has half of. Who
retries: the VMTemplates that wait for it (``Coming.owners``) are told what it failed of, and ask again.
"""

import asyncio
import hashlib
import logging
from collections.abc import Iterator

from proxmox_operator.controllers.context import TEMPLATE_KIND, Context
from proxmox_operator.controllers.fleet import Coming, Member, Place
from proxmox_operator.errors import Forbidden, LeadershipLost, NeedsHuman, OperatorError, Transient
from proxmox_operator.planning.templates import ImageFile
from proxmox_operator.proxmox.permissions import effective, permissions
from proxmox_operator.proxmox.request import Stream
from proxmox_operator.proxmox.session import ClusterSession
from proxmox_operator.web.fetch import Fetched, fetch

logger = logging.getLogger(__name__)

PRIVILEGE = "Datastore.AllocateTemplate"


class Upload:
    """The upload of one file to one place."""

    def __init__(
        self, context: Context, member: Member, session: ClusterSession, place: Place, coming: Coming
    ) -> None:
        self._context = context
        self._member = member
        self._session = session
        self._place = place
        self._coming = coming

    def start(self, file: ImageFile) -> None:
        """Begin; ``member.downloads`` has it until it has failed, or the task that it ends in is over."""
        self._member.whole.discard(self._place)
        self._coming.job = asyncio.create_task(self._run(file), name=f"upload-{file.name}")

    async def _run(self, file: ImageFile) -> None:
        coming = self._coming
        try:
            async with self._member.uploading:
                coming.upid = await self._bring(file)
        except OperatorError as error:
            self._failed(error)
        except LeadershipLost:
            logger.info("the upload of %s ends with the lease", file.name)
        except Exception as error:
            logger.exception("the upload of %s failed", file.name)
            self._failed(
                Transient(f"uploading {file.name} failed by a bug ({type(error).__name__}); tried again")
            )
        finally:
            if coming.upid is None:
                del self._member.downloads[self._place]
            self._context.wake_users(self._member.name, TEMPLATE_KIND)

    def _failed(self, error: OperatorError) -> None:
        if self._coming.cancelled:
            return
        logger.info("%s: %s", error.reason, error.message)
        now, slow = self._context.clock(), self._context.settings.slow_retry
        for memory in self._coming.owners.values():
            memory.fail(self._coming.node, error, now=now, slow=slow)

    async def _bring(self, file: ImageFile) -> str | None:
        """The UPID of the task that puts it into place; None where it is there already, as its size tells."""
        await self._refuse_unpermitted(file.storage)
        await self._refuse_busy()
        self._refuse_cancelled()
        fetched = await asyncio.to_thread(fetch, file.url)
        self._coming.source = fetched
        try:
            files, node = self._session.files, self._coming.node
            if (await files.images(node, file.storage)).get(file.volume) == fetched.size:
                self._member.whole.add(self._place)
                return None
            self._refuse_full(file.storage, fetched.size)
            self._refuse_cancelled()
            return await files.upload_image(
                node,
                file.storage,
                Stream(file.name, fetched.size, verified(fetched, file)),
                checksum=file.digest,
                algorithm=file.algorithm,
            )
        finally:
            fetched.close()

    def _refuse_cancelled(self) -> None:
        if self._coming.cancelled:
            raise Transient("nobody waits for it any more")

    async def _refuse_unpermitted(self, storage: str) -> None:
        """Proxmox would say so only when it has all of the file."""
        path = f"/storage/{storage}"
        if PRIVILEGE not in effective(await permissions(self._session.client), path):
            raise Forbidden(f"spec.image.storage: grant {PRIVILEGE} on {path} to the credentials", path=path)

    async def _refuse_busy(self) -> None:
        """What an earlier process has uploaded may still be on its way into place; its task does not say what it is.

        A second copy would overwrite the first while that is in use already.
        """
        known = {coming.upid for coming in self._member.downloads.values()}
        inventory = self._session.inventory.current
        for node in inventory.nodes.values() if inventory is not None else ():
            for task in await self._session.tasks.active(node.name) if node.online else ():
                ours = task.upid.type == "imgcopy" and task.upid.user == self._session.user
                if ours and task.upid.text not in known:
                    message = f"{node.name} is still copying a file that was uploaded; waits for that to end"
                    raise Transient(message, reason="UploadPending")

    def _refuse_full(self, storage: str, size: int) -> None:
        inventory = self._session.inventory.current
        found = inventory.storages.get((storage, self._coming.node)) if inventory is not None else None
        if found is not None and found.free is not None and found.free < size:
            message = (
                f"spec.image.storage: {storage} has no room for {size} bytes on {self._coming.node}: free space on the "
                "storage, or name another one"
            )
            raise NeedsHuman(message, reason="StorageFull")


def verified(fetched: Fetched, file: ImageFile) -> Iterator[bytes]:
    """The bytes; raises NeedsHuman (ChecksumMismatch) at their end where they are others than those of the spec, so
    that Proxmox never gets the end of the upload."""
    digest = hashlib.new(file.algorithm)
    for piece in fetched.pieces():
        digest.update(piece)
        yield piece
    if digest.hexdigest() != file.digest:
        message = (
            "what the server sent has another checksum: correct spec.image.checksum, or name a URL in spec.image.url "
            f"whose content does not change (got '{digest.hexdigest()}' != expect '{file.digest}')"
        )
        raise NeedsHuman(message, reason="ChecksumMismatch")
