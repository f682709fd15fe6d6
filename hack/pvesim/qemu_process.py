"""One QEMU process: started, talked to, ended.

It cannot outlive the simulator: the kernel kills it with the thread that started it (PR_SET_PDEATHSIG, set by
setpriv), which is the simulator's own. So it must be started in a loop that runs as long as the guest does.
"""

import asyncio
import time
from contextlib import suppress
from pathlib import Path

from . import qemu_command
from .qga import GuestAgent
from .qmp import Qmp, QmpError

START_SECONDS = 30.0
POLL_SECONDS = 0.02
END_SECONDS = 5.0


class QemuProcess:
    """A running QEMU with its monitor open."""

    def __init__(
        self, process: asyncio.subprocess.Process, monitor: Qmp, sockets: qemu_command.Sockets
    ) -> None:
        self._process = process
        self.monitor = monitor
        self.sockets = sockets
        self.agent = GuestAgent(sockets.agent)

    @classmethod
    async def start(cls, argv: list[str], sockets: qemu_command.Sockets) -> "QemuProcess":
        """Run QEMU with these arguments; back once its monitor answers, the guest boots meanwhile.

        :raises QmpError: it ended at once (the text has its last words), or its monitor does not answer.
        """
        sockets.folder.mkdir(parents=True, exist_ok=True)
        sockets.monitor.unlink(missing_ok=True)
        log = sockets.folder / "qemu.log"
        with log.open("ab") as out:
            process = await asyncio.create_subprocess_exec(
                "setpriv",
                "--pdeathsig",
                "SIGKILL",
                "qemu-system-x86_64",
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        try:
            monitor = await _monitor(process, sockets.monitor)
        except BaseException:
            if process.returncode is None:
                process.kill()
            await process.wait()
            raise
        if monitor is None:
            raise QmpError(f"QEMU exited with code {process.returncode}: {_last_line(log)}")
        return cls(process, monitor, sockets)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """True once the process is gone."""
        return self._process.returncode is not None

    async def ssh_ports(self, nics: list[str]) -> dict[str, int]:
        """NIC -> the port of 127.0.0.1 that leads to port 22 of the guest."""
        text = await self.monitor.execute("human-monitor-command", **{"command-line": "info usernet"})
        found = {key: qemu_command.forwarded_port(text, key) for key in nics}
        return {key: port for key, port in found.items() if port is not None}

    async def wait(self, seconds: float | None = None) -> None:
        """Wait for the end of the process, but no longer than `seconds`."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), seconds)

    async def end(self, *, abruptly: bool = False) -> None:
        """End the process: after closing its disks, or - as when the host's power fails - at once."""
        if not self.ended:
            if abruptly:
                self._process.kill()
            else:
                self._process.terminate()
                await self.wait(END_SECONDS)
                if not self.ended:
                    self._process.kill()
        await self._process.wait()
        await self.monitor.close()


async def _monitor(process: asyncio.subprocess.Process, path: Path) -> Qmp | None:
    """The monitor, None if QEMU has ended."""
    deadline = time.monotonic() + START_SECONDS
    while process.returncode is None:
        try:
            return await Qmp.connect(path)
        except OSError:
            if time.monotonic() > deadline:
                raise QmpError("QEMU does not open its monitor") from None
            await asyncio.sleep(POLL_SECONDS)
    return None


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no reason given"
