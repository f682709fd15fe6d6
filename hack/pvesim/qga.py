"""Talking to the guest agent of a running guest, over the unix socket behind its virtio port.

Facts: PVE::QMPClient of qemu-server. A connection per command, opened by `guest-sync-delimited`, which discards
what an earlier command that timed out may still have to say; a command that timed out is executed all the same.
qemu-ga has one channel, so commands of one VM wait for each other.
"""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

PING_SECONDS = 3.0
COMMAND_SECONDS = 5.0
SLOW_SECONDS = 600.0
SLOW = frozenset({"guest-fstrim", "guest-shutdown", "guest-fsfreeze-freeze", "guest-fsfreeze-thaw"})
# qemu-ga captures 16 MiB of each stream, which base64 and JSON make longer.
LINE_LIMIT = 64 * 1024**2
DELIMITER = b"\xff"

_syncs = itertools.count(1)


class AgentGone(Exception):
    """The agent did not answer in time, or QEMU is gone."""


class AgentRefused(Exception):
    """The agent answered with an error; the text is its description."""


class GuestAgent:
    """The agent behind one socket. All methods run in the simulator's loop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = asyncio.Lock()

    async def answers(self) -> bool:
        """True if a ping is answered within 3 s."""
        try:
            await self.execute("guest-ping", seconds=PING_SECONDS)
        except (AgentGone, AgentRefused):
            return False
        return True

    async def execute(self, command: str, /, *, seconds: float | None = None, **arguments: Any) -> Any:
        """Run an agent command; what it returns.

        :raises AgentGone: no answer within `seconds` (5, for some commands 600), or the end of QEMU.
        :raises AgentRefused: the agent's own error.
        """
        allowed = seconds or (SLOW_SECONDS if command in SLOW else COMMAND_SECONDS)
        try:
            async with asyncio.timeout(allowed), self._turn, self._channel() as (reader, writer):
                writer.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
                line = await reader.readline()
        except TimeoutError:
            raise AgentGone("got timeout") from None
        except OSError as error:
            raise AgentGone(str(error)) from error
        if not line:
            raise AgentGone("client closed connection")
        answer = json.loads(line)
        if "error" in answer:
            raise AgentRefused(answer["error"]["desc"])
        return answer["return"]

    @asynccontextmanager
    async def _channel(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection on which the next line is the answer to the next command."""
        reader, writer = await asyncio.open_unix_connection(self._path, limit=LINE_LIMIT)
        try:
            number = next(_syncs)
            sync = {"execute": "guest-sync-delimited", "arguments": {"id": number}}
            writer.write(DELIMITER + json.dumps(sync).encode() + b"\n")
            while line := await reader.readline():
                if _returns(line.rpartition(DELIMITER)[2], number):
                    break
            yield reader, writer
        finally:
            writer.close()


def _returns(line: bytes, number: int) -> bool:
    """True for the answer that carries the number; what else comes first may be cut anywhere."""
    try:
        return bool(json.loads(line) == {"return": number})
    except ValueError:
        return False
