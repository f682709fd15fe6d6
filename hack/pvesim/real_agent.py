"""The guest agent of a real guest: the API's calls reach qemu-ga, within the limits that Proxmox VE puts on them.

Facts: PVE::API2::Qemu::Agent, PVE::QemuServer::Agent (qemu_exec, qemu_exec_status, check_agent_error) and
PVE::QMPClient of qemu-server 9.2.6. qemu-ga forgets a finished command once it has told its result. Text is what
Perl makes of it: input as Latin-1, output bytes as the characters of the same number.
"""

import base64
from typing import Any

from .agent import COMMANDS
from .core import Values, die
from .model import SimVm
from .props import enabled
from .qga import AgentGone, AgentRefused
from .real_devices import RealDevices

READ_LIMIT = 16 * 1024**2
READ_PIECE = 1024**2


class RealServer(RealDevices):
    """GET and POST /nodes/{node}/qemu/{vmid}/agent/*, for real."""

    def _table_agent(self) -> list[tuple[str, str, Any]]:
        base = "/nodes/{node}/qemu/{vmid}/agent/"
        return [
            *((method, base + command, self._command(command)) for command, method in COMMANDS.items()),
            ("POST", base + "exec", self._exec),
            ("GET", base + "exec-status", self._exec_status),
            ("GET", base + "file-read", self._file_read),
            ("POST", base + "file-write", self._file_write),
            ("POST", base + "set-user-password", self._set_password),
        ]

    def _command(self, command: str) -> Any:
        async def handler(v: Values, user: str) -> Values:
            vm = await self._available(v)
            return {"result": await self._ask(vm, f"guest-{command}")}

        return handler

    async def _answers(self, vm: SimVm) -> bool:
        process = self.processes.get(vm.vmid)
        return process is not None and enabled((vm.qemu or {}).get("agent")) and await process.agent.answers()

    async def _available(self, v: Values) -> SimVm:
        vm = self.load_config(v["node"], v["vmid"])
        await self._assert_agent(vm)
        return vm

    async def _ask(self, vm: SimVm, command: str, **arguments: Any) -> Any:
        try:
            return await self.processes[vm.vmid].agent.execute(command, **arguments)
        except AgentRefused as error:
            raise die(f"Agent error: {error}") from error
        except AgentGone as error:
            if command == "guest-shutdown":
                return {}  # a guest that obeys does not answer
            raise die(f"VM {vm.vmid} qga command '{command}' failed - {error}") from error

    # ---------------------------------------------------------------- commands

    async def _exec(self, v: Values, user: str) -> Values:
        vm = await self._available(v)
        path, *arguments = v["command"]
        call: Values = {"path": path, "arg": arguments, "capture-output": True}
        if v.get("input-data"):
            call["input-data"] = _encoded(v["input-data"])
        started: Values = await self._ask(vm, "guest-exec", **call)
        return started

    async def _exec_status(self, v: Values, user: str) -> Values:
        vm = await self._available(v)
        status = await self._ask(vm, "guest-exec-status", pid=v["pid"])
        for name in ("out-data", "err-data"):
            if name in status:
                status[name] = base64.b64decode(status[name]).decode("latin-1")
        return {name: int(value) if isinstance(value, bool) else value for name, value in status.items()}

    async def _set_password(self, v: Values, user: str) -> Values:
        vm = await self._available(v)
        secret = _encoded(v["password"])
        crypted = bool(v.get("crypted"))
        call = {"username": v["username"], "password": secret, "crypted": crypted}
        return {"result": await self._ask(vm, "guest-set-user-password", **call)}

    # ------------------------------------------------------------------- files

    async def _file_read(self, v: Values, user: str) -> Values:
        vm = await self._available(v)
        limit, offset = int(v.get("count") or READ_LIMIT), int(v.get("offset") or 0)
        handle = await self._ask(vm, "guest-file-open", path=v["file"])
        content, eof = b"", False
        try:
            if offset:
                await self._ask(vm, "guest-file-seek", handle=handle, offset=offset, whence="set")
            while len(content) < limit and not eof:
                count = min(READ_PIECE, limit - len(content))
                piece = await self._ask(vm, "guest-file-read", handle=handle, count=count)
                content += base64.b64decode(piece["buf-b64"])
                eof = piece["eof"]
        finally:
            await self._ask(vm, "guest-file-close", handle=handle)
        decode = bool(v.get("decode", 1))
        text = content.decode("latin-1") if decode else base64.b64encode(content).decode()
        return {"content": text, "bytes-read": len(content)} | ({} if eof else {"truncated": 1})

    async def _file_write(self, v: Values, user: str) -> None:
        vm = await self._available(v)
        data = _encoded(v["content"]) if v.get("encode", 1) else v["content"]
        handle = await self._ask(vm, "guest-file-open", path=v["file"], mode="wb")
        try:
            await self._ask(vm, "guest-file-write", handle=handle, **{"buf-b64": data})
        finally:
            await self._ask(vm, "guest-file-close", handle=handle)


def _encoded(text: str) -> str:
    """encode_base64 of Perl, which knows bytes only.

    :raises PveError: 500: a character above U+00FF.
    """
    try:
        return base64.b64encode(text.encode("latin-1")).decode()
    except UnicodeEncodeError:
        raise die("Wide character in subroutine entry") from None
