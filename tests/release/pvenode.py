"""A Proxmox node for scripts: runs one with a ``pveum`` of ours, and gives a simulator the ACL that came of it.

``pveum`` keeps a record of its calls and refuses what the real one refuses because of earlier ones; what a call means
is read from the record. Facts: PVE::CLI::pveum and PVE::API2::{User,Role,ACL} of libpve-access-control 9.1.1.
"""

import argparse
import os
import shlex
import subprocess
from collections import defaultdict
from pathlib import Path

from pvesim import PveSim

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "manifests" / "proxmox"
SECRET = "the-secret-of-the-token"

PVEUM = """\
#!/bin/sh
record="$0.record"
done_before() { grep -qx "$1" "$record" 2>/dev/null; }
refuse() { echo "$*" >&2; exit 255; }
case "$1 $2 $3" in
    "user token list") done_before "user add $4 .*" || refuse "no such user" ;;
    "user token permissions") done_before "user token add $4 $5 .*" || refuse "no such token" ;;
    "user token add")
        done_before "user add $4 .*" || refuse "no such user"
        done_before "$*" && refuse "tokenid: Token already exists."
        echo "value $SECRET" ;;
    "user add "*) done_before "user add $3 .*" && refuse "create user failed: user already exists" ;;
    "role modify "*) done_before "role add $3 .*" || refuse "update role failed: role does not exist" ;;
    "role add "*) done_before "role add $3 .*" && refuse "create role failed: role already exists" ;;
    "acl modify "*) ;;
    *) refuse "pveum: no such command: $*" ;;
esac
echo "$*" >>"$record"
"""

Acl = dict[str, dict[str, dict[str, bool]]]
"""User or token, path, role: whether it propagates."""


class Node:
    """Where scripts run for one simulator."""

    def __init__(self, folder: Path, sim: PveSim) -> None:
        self._sim = sim
        self._programs = folder
        pveum = folder / "pveum"
        pveum.write_text(PVEUM)
        pveum.chmod(0o755)

    def run(self, **variables: str) -> subprocess.CompletedProcess[str]:
        """The script for the version of the simulator, as a person runs it."""
        user, _, token = self._sim.token_id.partition("!")
        path = f"{self._programs}:{os.environ['PATH']}"
        environment = {"PATH": path, "SECRET": SECRET, "USER_ID": user, "TOKEN": token, **variables}
        command = ["sh", str(SCRIPTS / f"roles-pve{self._sim.server.pve}.sh")]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def calls(self, *words: str) -> list[list[str]]:
        """What follows these words in each call that changed something, in order."""
        record = self._programs / "pveum.record"
        lines = [shlex.split(line) for line in record.read_text().splitlines()] if record.exists() else []
        return [line[len(words) :] for line in lines if line[: len(words)] == [*words]]

    @property
    def roles(self) -> dict[str, list[str]]:
        """The privileges of each role. Fails for one that this version of Proxmox VE does not have."""
        found = {}
        for verb in ("add", "modify"):
            for name, option, privileges in self.calls("role", verb):
                assert option == "--privs"
                found[name] = privileges.split(",")
        unknown = {name for names in found.values() for name in names} - self._sim.server.privileges
        assert not unknown, f"invalid privileges {unknown}"
        return found

    @property
    def acl(self) -> Acl:
        """The entries, for the user and the token."""
        parser = argparse.ArgumentParser()
        parser.add_argument("path")
        for name in ("users", "tokens", "roles", "propagate"):
            parser.add_argument(f"--{name}", required=True)
        found: Acl = defaultdict(lambda: defaultdict(dict))
        for call in self.calls("acl", "modify"):
            given = parser.parse_args(call)
            for who in (given.users, given.tokens):
                found[who][given.path][given.roles] = given.propagate == "1"
        return found

    def grant(self, *, without: tuple[str, str] | None = None) -> None:
        """The simulator has exactly these entries, less one privilege of one role."""
        self._sim.call(lambda: self._grant(self.acl, self.roles, without))

    def _grant(self, acl: Acl, roles: dict[str, list[str]], without: tuple[str, str] | None) -> None:
        self._sim.server.grants.clear()
        for who, paths in acl.items():
            for path, granted in paths.items():
                held = {name for role in granted for name in roles[role] if (role, name) != without}
                [propagate] = set(granted.values())
                self._sim.server.set_acl(who, path, held, propagate=propagate)
