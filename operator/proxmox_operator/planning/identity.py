"""Which Proxmox VM is which ProxmoxVM: the mark, and the verdict on who owns a config.

The mark is an HTML comment in the VM's description (invisible in the GUI; the user's own text stays
beside it). It names the VMID it was written for: a GUI clone or a restore to another VMID carries a
copy of the description, and that copy is not ours. Not here: reading configs, and what to do about a verdict.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from enum import Enum

from proxmox_operator.planning.propstring import parse_props

_MARK = re.compile(r"<!-- proxmox-operator (\{(?:(?!--).)*\}) -->")
_TOMBSTONE = re.compile(r"<!-- proxmox-operator released \S+ vmid=\d+ -->")


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What is written into a VM's description to say whose it is.

    ``cluster_id`` identifies the Kubernetes cluster, ``uid`` the ProxmoxVM object, ``vmid`` the VM the mark was
    written for, and ``uuid`` is the SMBIOS UUID minted for it before it was created.
    """

    cluster_id: str
    namespace_uid: str
    namespace: str
    name: str
    uid: str
    vmid: int
    uuid: str


class Owner(Enum):
    """Whose the VM under a VMID is.

    OURS: proven, mark and all. UNMARKED: proven by its SMBIOS UUID, but the mark is gone. PENDING: a clone in
    progress that has no mark yet; neither ours nor foreign. FOREIGN: somebody else's; hands off.
    """

    OURS = "ours"
    UNMARKED = "unmarked"
    PENDING = "pending"
    FOREIGN = "foreign"


def render_description(mark: Mark, text: str) -> str:
    """The description that holds the user's ``text`` and the mark.

    ``--`` is escaped: it would end the comment early.
    """
    payload = json.dumps(asdict(mark), sort_keys=True, separators=(",", ":")).replace("--", "-\\u002d")
    comment = f"<!-- proxmox-operator {payload} -->"
    return f"{text.rstrip()}\n\n{comment}" if text.strip() else comment


def render_tombstone(description: str, mark: Mark) -> str:
    """``description`` with the mark replaced by a note that the VM was let go.

    A tombstone is never taken for a mark, so the VM is not found again except by an explicit adoption.
    """
    note = f"<!-- proxmox-operator released {mark.namespace}/{mark.name} vmid={mark.vmid} -->"
    text = user_text(description)
    return f"{text}\n\n{note}" if text else note


def read_mark(description: str) -> Mark | None:
    """The mark in a description, or ``None`` when there is none that can be read."""
    return next(filter(None, map(_mark_of, _MARK.finditer(description))), None)


def _mark_of(comment: re.Match[str]) -> Mark | None:
    """The mark that a comment holds; ``None`` for one that only looks like it, which anybody may have written."""
    try:
        fields = json.loads(comment[1])
        mark = Mark(**{key: fields[key] for key in Mark.__dataclass_fields__})
    except (ValueError, KeyError, RecursionError):
        return None
    return mark if all(type(value) is _TYPES[key] for key, value in asdict(mark).items()) else None


_TYPES = {field.name: field.type for field in dataclass_fields(Mark)}


def user_text(description: str) -> str:
    """The description without marks and tombstones: what a person wrote."""
    text = _MARK.sub(lambda comment: comment[0] if _mark_of(comment) is None else "", description)
    return _TOMBSTONE.sub("", text).lstrip("\n").rstrip()


@dataclass(frozen=True, kw_only=True)
class Signs:
    """What a config says of whose VM it is: any mark that can be read, and the SMBIOS UUID."""

    mark: Mark | None
    uuid: str | None


def signs_of(config: Mapping[str, str]) -> Signs:
    """The signs in a config as Proxmox returned it."""
    return Signs(
        mark=read_mark(config.get("description", "")),
        uuid=parse_props(config.get("smbios1", ""), "uuid").get("uuid"),
    )


def owner(mine: Mark, signs: Signs, *, lock: str | None) -> Owner:
    """Whose the VM under ``mine.vmid`` is, judged by its config.

    The mark decides; the SMBIOS UUID, which is ours only after the first config write, stands in for a
    mark lost in a GUI edit. A stub that is being cloned holds neither yet, and one that is half destroyed no more.
    """
    if signs.mark is not None:
        return Owner.OURS if _same(signs.mark, mine) else Owner.FOREIGN
    if signs.uuid is not None and signs.uuid.lower() == mine.uuid.lower():
        return Owner.UNMARKED
    if lock in ("clone", "create", "destroyed"):
        return Owner.PENDING
    return Owner.FOREIGN


def _same(found: Mark, mine: Mark) -> bool:
    """The same VM (VMID and UUID) of the same object; its UID changes when it is restored with its status."""
    same_object = found.uid == mine.uid or _identity(found) == _identity(mine)
    return found.vmid == mine.vmid and found.uuid.lower() == mine.uuid.lower() and same_object


def _identity(mark: Mark) -> tuple[str, str, str, str]:
    return mark.cluster_id, mark.namespace_uid, mark.namespace, mark.name


class Claim(Enum):
    """What an object with an empty status may do with a marked VM it finds.

    TAKE: same cluster, namespace and name, so it is the same VM after a lost status. GRANT: the same name but
    of another namespace UID or cluster (a new tenant, a disaster move), taken only with a recovery grant.
    NONE: not ours.
    """

    TAKE = "take"
    GRANT = "grant"
    NONE = "none"


def claim(
    found: Mark, *, standing_on: int, cluster_id: str, namespace_uid: str, namespace: str, name: str
) -> Claim:
    """How an object may claim the VM ``standing_on`` that carries ``found``."""
    if found.vmid != standing_on or (found.namespace, found.name) != (namespace, name):
        return Claim.NONE
    if (found.cluster_id, found.namespace_uid) == (cluster_id, namespace_uid):
        return Claim.TAKE
    return Claim.GRANT
