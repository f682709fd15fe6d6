"""Talking to QEMU: the QMP monitor of one process, over its unix socket.

JSON lines; answers carry the number of their command, anything else is an event. Not here: which commands a
change of a VM takes (qemu_devices.py), and the guest agent's protocol, which has no numbers (qga.py).
"""

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

ANSWER_SECONDS = 10.0
LINE_LIMIT = 1024**2


class QmpError(Exception):
    """QEMU refused a command, did not answer in time, or is gone; the text is QEMU's own where there is one."""


class Qmp:
    """An open monitor. All methods run in the simulator's loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._events: list[tuple[str, str, asyncio.Future[None]]] = []
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def connect(cls, path: Path) -> "Qmp":
        """Open the monitor and leave its negotiation mode.

        :raises OSError: nobody listens there (yet).
        """
        reader, writer = await asyncio.open_unix_connection(path, limit=LINE_LIMIT)
        monitor = cls(reader, writer)
        await monitor.execute("qmp_capabilities")
        return monitor

    async def execute(self, command: str, /, **arguments: Any) -> Any:
        """Run a command and return what it returns.

        :raises QmpError: it failed.
        """
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        request = json.dumps({"execute": command, "arguments": arguments, "id": number})
        self._writer.write(request.encode() + b"\n")
        try:
            return await asyncio.wait_for(answer, ANSWER_SECONDS)
        except TimeoutError:
            raise QmpError(f"qmp command '{command}' failed - got timeout") from None
        finally:
            del self._answers[number]

    def expect(self, event: str, device: str) -> asyncio.Future[None]:
        """A future that is done when QEMU reports the event for the device; ask before causing it."""
        seen: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._events.append((event, device, seen))
        return seen

    async def close(self) -> None:
        """Hang up; what still waits for an answer gets a QmpError."""
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        self._writer.close()

    async def _listen(self) -> None:
        try:
            while line := await self._reader.readline():
                self._take(json.loads(line))
        except ConnectionError:
            pass
        finally:
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(QmpError("QEMU is gone"))

    def _take(self, message: dict[str, Any]) -> None:
        answer = self._answers.get(message.get("id", 0))
        if answer is not None and not answer.done():
            if "error" in message:
                answer.set_exception(QmpError(message["error"]["desc"]))
            else:
                answer.set_result(message.get("return"))
        for waiting in list(self._events):
            event, device, seen = waiting
            if event == message.get("event") and device == message.get("data", {}).get("device"):
                self._events.remove(waiting)
                if not seen.done():
                    seen.set_result(None)
