"""Files that are sent to Proxmox as they come, against the simulator: what arrives, and what is never begun."""

import asyncio
import hashlib
import tracemalloc

import pytest

from imageserver import GIB, qcow2
from proxmox_operator import errors
from proxmox_operator.proxmox.credentials import PasswordCredentials
from proxmox_operator.proxmox.form import Form
from proxmox_operator.proxmox.request import Stream
from proxmox_operator.proxmox.transport import CALL_TIMEOUT, READ_TIMEOUT
from pvesim.client import eventually

IMAGE = qcow2(2 * GIB)
SUM = hashlib.sha256(IMAGE).hexdigest()
PIECE = bytes(256 * 1024)


def cut(data, size=50):
    return iter([data[start : start + size] for start in range(0, len(data), size)])


async def upload(session, data, *, checksum=SUM, pieces=None, name="debian.qcow2"):
    stream = Stream(name, len(data), pieces or cut(data))
    return await session.files.upload_image("pve2", "local", stream, checksum=checksum, algorithm="sha256")


async def result(session, upid):
    ended = asyncio.get_running_loop().create_future()
    session.tasks.watch(upid, ended.set_result)
    return await ended


async def test_a_stream_arrives_with_its_checksum_and_proxmox_verifies_it(sim, open_session):
    session = open_session(sim)
    assert (await result(session, await upload(session, IMAGE))).error is None
    assert sim.image_path("local:import/debian.qcow2", "pve2").read_bytes() == IMAGE
    assert await session.files.images("pve2", "local") == {"local:import/debian.qcow2": len(IMAGE)}
    (call,) = sim.recorder.matching("POST", r"/upload$")
    assert (call.params["checksum"], call.params["checksum-algorithm"]) == (SUM, "sha256")


async def test_another_checksum_fails_the_task(sim, open_session):
    session = open_session(sim)
    ended = await result(session, await upload(session, IMAGE, checksum="0" * 64))
    assert ended.error.reason == "ChecksumMismatch"
    assert sim.world().files == ()


async def test_a_user_with_a_password_uploads_with_ticket_and_token(sim, open_session):
    session = open_session(sim, credentials=PasswordCredentials(sim.user, sim.password))
    assert (await result(session, await upload(session, IMAGE))).error is None


async def test_a_stream_that_fails_is_never_finished_and_leaves_nothing(sim, open_session):
    def pieces():
        yield PIECE
        raise errors.Transient("cut", reason="DownloadFailed")

    session = open_session(sim)
    with pytest.raises(errors.Transient) as caught:
        await upload(session, PIECE * 2, pieces=pieces())
    assert caught.value.reason == "DownloadFailed"
    await asyncio.to_thread(eventually, lambda: not list(sim.server.scratch.path.iterdir()))
    assert not sim.recorder.matching("POST", r"/upload$")
    assert await session.client.get("version"), "the connection of others goes on"


async def test_a_refusal_of_proxmox_is_told_with_its_message(sim, open_session):
    session = open_session(sim)
    sim.revoke(sim.token_id, "/")
    sim.grant(sim.token_id, "/", ["Sys.Audit"])
    with pytest.raises(errors.Forbidden, match=r"Datastore\.AllocateTemplate on /storage/local"):
        await upload(session, IMAGE)


async def test_the_memory_does_not_grow_with_the_file(sim, open_session):
    session, count = open_session(sim), 96
    checksum = hashlib.sha256(PIECE * count).hexdigest()
    await session.client.get("version")
    tracemalloc.start()
    try:
        await session.files.upload_image(
            "pve1",
            "local",
            Stream("big.raw", count * len(PIECE), (PIECE for _ in range(count))),
            checksum=checksum,
            algorithm="sha256",
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < count * len(PIECE) / 3


def test_the_end_of_a_form_and_its_answer_take_no_longer_than_the_fence_is_held():
    allowed: list[float] = []
    form = Form({"content": "import"}, "filename", Stream("x", 2, iter([b"a", b"b"])), allowed.append)
    told = [(allowed[-1], form.complete, piece[-4:] == b"--\r\n") for piece in form]
    assert told[:-1] == [(READ_TIMEOUT, False, False)] * 3
    assert told[-1] == (CALL_TIMEOUT - READ_TIMEOUT, True, True)
