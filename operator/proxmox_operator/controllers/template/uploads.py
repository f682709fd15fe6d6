"""Uploading images for nodes that do not reach the URL: the operator fetches the file and passes it on as it comes.

An upload takes minutes, so it is a job of its own, beside the passes over objects: one at a time for each place, a few
for each cluster. Nothing of it is on record: after a crash it begins anew, as Proxmox drops what it has half of. Who
retries: the VMTemplates that wait for it (``Coming.owners``) are told what it failed of, and ask again.
"""

import asyncio
import hashlib
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from proxmox_operator.controllers.context import TEMPLATE_KIND, Context, is_paused
from proxmox_operator.controllers.fleet import Coming, Member, Place
from proxmox_operator.errors import (
    AnswerLost,
    Forbidden,
    LeadershipLost,
    NeedsHuman,
    OperatorError,
    Transient,
)
from proxmox_operator.planning.templates import ImageFile
from proxmox_operator.proxmox.permissions import effective, permissions
from proxmox_operator.proxmox.request import Stream
from proxmox_operator.proxmox.session import ClusterSession
from proxmox_operator.web.fetch import Fetched, Wire, fetch

logger = logging.getLogger(__name__)

PRIVILEGE = "Datastore.AllocateTemplate"

_FETCHING = ThreadPoolExecutor(max_workers=8, thread_name_prefix="fetch")
"""Not the pool of everything else, whose end a process waits for that has lost the lease."""


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
        self._coming.job.add_done_callback(self._over)

    def _over(self, _: asyncio.Task[None]) -> None:
        """Also of a job that was cancelled before its first step."""
        if self._coming.upid is None:
            del self._member.downloads[self._place]
        self._context.wake_users(self._member.name, TEMPLATE_KIND)

    async def _run(self, file: ImageFile) -> None:
        coming = self._coming
        try:
            async with self._member.uploading:
                coming.upid = await self._bring(file)
        except AnswerLost as lost:
            # It may still take effect: until then it is on its way, so that it is neither repeated, used nor deleted.
            logger.info("%s: %s", lost.reason, lost.message)
            await asyncio.sleep(self._context.settings.takeover_delay)
            message = f"Proxmox did not tell whether it has taken {file.name}; looks, and tries again"
            self._failed(Transient(message, reason="UploadCut"))
        except OperatorError as error:
            self._failed(error)
        except LeadershipLost:
            logger.info("the upload of %s ends with the lease", file.name)
        except Exception as error:
            logger.exception("the upload of %s failed", file.name)
            self._failed(
                Transient(f"uploading {file.name} failed by a bug ({type(error).__name__}); tried again")
            )

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
        self._refuse_cancelled()
        wire = self._coming.wire = Wire()
        fetched = await asyncio.get_running_loop().run_in_executor(_FETCHING, fetch, file.url, wire)
        try:
            files, node = self._session.files, self._coming.node
            there = (await files.images(node, file.storage)).get(file.volume)
            if there == fetched.size:
                self._member.whole.add(self._place)
                return None
            self._refuse_full(file.storage, fetched.size - (there or 0))
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
        if is_paused(self._member.cluster.metadata.annotations):
            self._coming.cancelled = True
        if self._coming.cancelled:
            raise Transient("nobody waits for it any more")

    async def _refuse_unpermitted(self, storage: str) -> None:
        """Proxmox would say so only when it has all of the file."""
        path = f"/storage/{storage}"
        if PRIVILEGE not in effective(await permissions(self._session.client), path):
            raise Forbidden(f"spec.image.storage: grant {PRIVILEGE} on {path} to the credentials", path=path)

    def _refuse_full(self, storage: str, size: int) -> None:
        """``size`` is what it takes beyond a file that it overwrites."""
        inventory = self._session.inventory.current
        found = inventory.storages.get((storage, self._coming.node)) if inventory is not None else None
        if found is not None and found.free is not None and found.free < size:
            message = (
                f"spec.image.storage: {storage} has no room for {size} bytes more on {self._coming.node}: free space "
                "on the storage, or name another one"
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
