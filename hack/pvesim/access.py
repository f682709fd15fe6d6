"""Who may do what: tokens, tickets, ACLs, and the texts of 401 and 403.

Facts: PVE::RPCEnvironment (permissions, check_vm_perm, get_effective_permissions),
PVE::HTTPServer::auth_handler. An ACL entry on a deeper path replaces what is inherited; a
privilege-separated token has the intersection of its own and its user's rights; a pool's rights add to its
members'; only the login root@pam bypasses everything - a token of it does not.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fakepve import shapes
from fakepve.model import PveError

from .core import Core, Values, forbidden

ROOT = "root@pam"
TOP_PATHS = ("/", "/access", "/access/groups", "/nodes", "/pool", "/sdn", "/storage", "/vms")
# Privileges of version 9 that version 8 does not have, and the reverse.
ONLY_9 = frozenset(priv for priv in shapes.PRIVILEGES if priv.startswith("VM.GuestAgent.")) | {"VM.Replicate"}
ONLY_8 = frozenset({"VM.Monitor"})


@dataclass
class Token:
    """An API token. `expire` is a UNIX time, 0 for never."""

    secret: str
    privsep: bool = True
    expire: int = 0


class Access(Core):
    """Authentication and permission checks."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.tokens: dict[str, Token] = {}
        # authid -> path -> {privilege: propagate}
        self.grants: dict[str, dict[str, dict[str, bool]]] = {}
        self._effective: dict[tuple[str, str], frozenset[str]] = {}
        self._pool_index: dict[int, str] = {}

    @property
    def privileges(self) -> frozenset[str]:
        """All privileges this version knows."""
        known = frozenset(shapes.PRIVILEGES)
        return known if self.pve >= 9 else (known - ONLY_9) | ONLY_8

    # ------------------------------------------------------------ administration

    def add_token(self, authid: str, secret: str, *, privsep: bool = True, expire: int = 0) -> None:
        """Create or replace an API token `user@realm!name`."""
        self.tokens[authid] = Token(secret, privsep, expire)
        self._effective.clear()

    def remove_token(self, authid: str) -> None:
        """Delete a token: its next request gets 401."""
        self.tokens.pop(authid, None)
        self._effective.clear()

    def set_acl(self, authid: str, path: str, privs: Iterable[str], *, propagate: bool = True) -> None:
        """The ACL entry of `authid` on `path` becomes exactly `privs`; none at all is the role NoAccess."""
        self.grants.setdefault(authid, {})[path] = dict.fromkeys(privs, propagate)
        self._effective.clear()

    def add_acl(self, authid: str, path: str, privs: Iterable[str], *, propagate: bool = True) -> None:
        """Add privileges to the ACL entry on `path` (a new entry replaces what was inherited there)."""
        entry = self.grants.setdefault(authid, {}).get(path, {})
        self.set_acl(authid, path, set(entry) | set(privs), propagate=propagate)

    def drop_acl(self, authid: str, path: str, privs: Iterable[str] | None = None) -> None:
        """Take privileges (None: all) away on `path` and below, by an ACL entry that leaves out the rest."""
        left = set() if privs is None else self.own(authid, path) - set(privs)
        self.set_acl(authid, path, left)

    # ----------------------------------------------------------------- evaluation

    def own(self, authid: str, path: str) -> set[str]:
        """What the ACLs of this user or token alone give on a path, pools included."""
        entries = self.grants.get(authid, {})
        held = self._inherited(entries, path)
        vmid = path.removeprefix("/vms/")
        pool = self._pool_index.get(int(vmid)) if vmid != path and vmid.isdigit() else None
        if pool is not None and not (path in entries and not entries[path]):
            held = held | self._inherited(entries, f"/pool/{pool}")
        return held

    @staticmethod
    def _inherited(entries: dict[str, dict[str, bool]], path: str) -> set[str]:
        held: set[str] = set()
        prefix = ""
        for part in ["", *[segment for segment in path.split("/") if segment]]:
            prefix = "/" if not part else (f"/{part}" if prefix == "/" else f"{prefix}/{part}")
            entry = entries.get(prefix)
            if entry is not None:
                held = {priv for priv, propagate in entry.items() if propagate or prefix == path}
        return held

    def effective(self, authid: str, path: str) -> frozenset[str]:
        """The privileges of a user or token on a path."""
        if authid == ROOT:
            return self.privileges
        cached = self._effective.get((authid, path))
        if cached is not None:
            return cached
        user, _, name = authid.partition("!")
        if name:
            token = self.tokens.get(authid)
            if token is None:
                held = frozenset[str]()
            else:
                held = self.effective(user, path)
                held = held & self.own(authid, path) if token.privsep else held
        else:
            held = frozenset(self.own(authid, path))
        self._effective[authid, path] = held
        return held

    def allowed(self, user: str, path: str, priv: str) -> bool:
        """True if the user holds the privilege on the path."""
        return user == ROOT or priv in self.effective(user, path)

    def require(self, user: str, path: str, priv: str) -> None:
        """403 unless the user holds the privilege on the path."""
        if not self.allowed(user, path, priv):
            raise forbidden(f"{path}, {priv}")

    def require_vm(self, user: str, vmid: int, pool: str | None, *privs: str, any_of: bool = False) -> None:
        """check_vm_perm: on the pool that is being joined, else on the VM."""
        for path in ([f"/pool/{pool}"] if pool else []) + [f"/vms/{vmid}"]:
            held = self.privileges if user == ROOT else self.effective(user, path)
            if (any_of and held & set(privs)) or (not any_of and held >= set(privs)):
                return
        if any_of:
            raise forbidden(f"/vms/{vmid}, {'|'.join(privs)}")
        raise forbidden(f"/vms/{vmid}, {next(priv for priv in privs if priv not in held)}")

    def check_permissions(
        self, user: str | None, perms: Values | None, values: Values, declared: Any = None
    ) -> None:
        """The `permissions` rule of a method in the API schema. Unlike fakepve, a token of root@pam is not
        root."""
        if user == ROOT or (user is None and (perms or {}).get("user") == "world"):
            return
        if perms is None:
            raise forbidden("user != root@pam")
        if "check" in perms:
            ok, why = self._check(user, self._for_version(perms["check"]), values, declared)
            if not ok:
                raise forbidden(why) if why else PveError(403, "Permission check failed")
        elif perms.get("user") not in ("all", "world"):
            raise forbidden("user != root@pam")

    def _for_version(self, rule: list[Any]) -> list[Any]:
        """The schema is version 9's: before it, every guest agent command needed VM.Monitor."""
        if (
            self.pve < 9
            and rule[0] == "perm"
            and any(str(priv).startswith("VM.GuestAgent.") for priv in rule[2])
        ):
            return ["perm", rule[1], ["VM.Monitor"]]
        return rule

    # ------------------------------------------------------------- authentication

    def _authenticate(self, request: Any) -> str | None:
        if request.path.endswith("/access/ticket") or request.path.endswith("/access/domains"):
            return None
        header = request.headers.get("Authorization", "")
        ticket = request.cookies.get("PVEAuthCookie")
        if ticket is None and header.startswith("PVEAPIToken="):
            authid, _, secret = header.removeprefix("PVEAPIToken=").partition("=")
            token = self.tokens.get(authid)
            if token is None or token.secret != secret or 0 < token.expire < time.time():
                raise PveError(401, "Authentication failed!")
            return str(authid)
        if ticket is None:
            raise PveError(401, "No ticket")
        session = self.tickets.get(ticket)
        if session is None or session["expires"] < time.time():
            raise PveError(401, "Authentication failed!")
        if request.method != "GET" and request.headers.get("CSRFPreventionToken") != session["csrf"]:
            raise PveError(401, "Permission denied - invalid csrf token")
        return str(session["user"])

    # --------------------------------------------------------------------- pools

    def _sync_pools(self) -> None:
        """fakepve calls this whenever a pool's membership changed."""
        self._pool_index = {vmid: name for name, ids in self.pools.items() for vmid in ids}
        self._effective.clear()

    def pool_of(self, vmid: int) -> str | None:
        """The pool a VM is in."""
        return self._pool_index.get(vmid)

    # -------------------------------------------------------------------- routes

    def _table_access(self) -> list[tuple[str, str, Any]]:
        return [("GET", "/access/permissions", self._permissions_get)]

    async def _permissions_get(self, v: Values, user: str) -> Values:
        who = v.get("userid") or user
        if who != user and who.partition("!")[0] != user:
            self.require(user, "/access", "Sys.Audit")
        paths = (
            {v["path"]}
            if v.get("path")
            else {*TOP_PATHS, *(path for by in self.grants.values() for path in by)}
        )
        if not v.get("path"):
            paths |= {f"/vms/{vmid}" for vmid in self._pool_index}
        held = {path: self.effective(who, path) for path in sorted(paths)}
        below = {path: self.effective(who, f"{path.rstrip('/')}/-") for path in held}
        return {
            path: {priv: int(priv in below[path]) for priv in sorted(privs)}
            for path, privs in held.items()
            if privs
        }
