"""Writes manifests/proxmox/: shell scripts that give the operator its user, token and roles. ``make pve-roles``.

The privileges are those that ``proxmox-operator check`` asks for (``proxmox_operator.proxmox.permissions``), for each
feature on each kind of path. Not here: what a privilege is for, which is in docs/vm.md.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from proxmox_operator.proxmox.permissions import Feature, Scope, needs

FOLDER = Path(__file__).resolve().parents[1] / "manifests" / "proxmox"
VERSIONS = (8, 9)

BASE = Scope().features
CHOICES = tuple(feature for feature in Feature if feature not in BASE)
USUAL = (Feature.MOVE, Feature.SEED, Feature.IMAGES, Feature.DEVICES)
"""Choices that come without being asked for: none gives the operator power over a host, a guest or a backup."""
WHAT_FOR = {
    Feature.HA: "spec.availability. Sys.Console on / is the right to change HA for everything in the cluster",
    Feature.MOVE: "moving VMs to other nodes",
    Feature.SEED: "cloudInit.userData: files on FILE_STORAGES",
    Feature.EXEC: "readiness.cloudInit: the right to run commands as root in every VM",
    Feature.BUILD: "spec.build of VMTemplates: the same right, and files on FILE_STORAGES",
    Feature.IMAGES: "images of VMTemplates, downloaded to FILE_STORAGES",
    Feature.CLEANUP: "deleting images and user data that nothing needs: the right to delete backups there, too",
    Feature.DEVICES: "PCI and USB devices, by their mappings",
    Feature.STARTUP: "startup.order and its delays. Sys.Modify on / is the right to change settings of the cluster",
}

KINDS = {
    "/": "cluster",
    "/nodes": "nodes",
    "/vms": "vms",
    "/storage/S": "storages",
    "/sdn/zones/B": "bridges",
}
KINDS |= {"/vms/0": "vms", "/mapping": "mappings"}


class Role(NamedTuple):
    """Privileges for the paths of one kind; ``feature`` is None for what the operator needs in any case."""

    feature: Feature | None
    kind: str
    privileges: tuple[str, ...]

    @property
    def name(self) -> str:
        """The same at each run, so that running the script again changes this role."""
        return f"ProxmoxOperator-{self.feature.name.lower() if self.feature else 'base'}-{self.kind}"


def roles(major: int) -> Iterator[Role]:
    """All roles for Proxmox VE ``major``. One of a choice leaves out what the base gives on the same paths."""
    base = _by_kind(major, Scope(storages=("S",), bridges=("B",), templates=(0,), features=BASE))
    for kind, privileges in base.items():
        yield Role(None, kind, tuple(privileges))
    yield Role(
        None, "files", tuple(_by_kind(major, Scope(storages=("S",), features=(Feature.OBSERVE,)))["storages"])
    )
    for feature in CHOICES:
        for kind, privileges in _by_kind(
            major, Scope(storages=("S",), bridges=("B",), features=(feature,))
        ).items():
            if left := tuple(name for name in privileges if name not in base.get(kind, ())):
                yield Role(feature, "files" if kind == "storages" else kind, left)


def _by_kind(major: int, scope: Scope) -> dict[str, list[str]]:
    """Of alternatives the first, which is the weakest."""
    found: dict[str, list[str]] = {}
    for path, (privilege, *_), _ in needs(scope, major):
        listed = found.setdefault(KINDS[path], [])
        if privilege not in listed:
            listed.append(privilege)
    return found


def script(major: int) -> str:
    """The script for Proxmox VE ``major``, with nothing in it that was not made here."""
    listed = list(roles(major))
    words = {feature: feature.name.lower() for feature in CHOICES}
    blocks = [_granted(role for role in listed if role.feature is None)]
    for feature in CHOICES:
        granted = _granted((role for role in listed if role.feature is feature), indent="    ")
        if granted:
            blocks.append(f"if wanted {words[feature]}; then\n{granted}\nfi")
    within = [word for feature, word in words.items() if not any(role.feature is feature for role in listed)]
    return TEMPLATE.format(
        major=major,
        choices="\n".join(f"#     {words[feature]:<8} {WHAT_FOR[feature]}" for feature in CHOICES),
        usual=" ".join(words[feature] for feature in USUAL),
        known=" ".join(words.values()),
        within=WITHIN.format(major=major, words=", ".join(within)) if within else "",
        blocks="\n\n".join(blocks),
    )


def _granted(listed: Iterable[Role], indent: str = "") -> str:
    return "\n".join(f"{indent}grant {role.name} {role.kind} {','.join(role.privileges)}" for role in listed)


def files() -> dict[str, str]:
    """Name and text of each file in FOLDER."""
    return {f"roles-pve{major}.sh": script(major) for major in VERSIONS}


WITHIN = """\
#
# On Proxmox VE {major} VM.Monitor, which is needed in any case, is the right to run commands as root in every VM, and
# enough for {words}.
"""

TEMPLATE = """\
#!/bin/sh
# The user, the API token and the roles that proxmox-operator needs in Proxmox VE {major}, and no more than these.
# Generated by `make pve-roles` from what `proxmox-operator check` asks for. Do not edit.
#
# Run it as root on one node of the cluster, with what is different at yours; these are the defaults:
#
#     USER_ID=operator@pve TOKEN=kubernetes STORAGES=local-lvm FILE_STORAGES=local BRIDGES=localnetwork/vmbr0 POOL= \\
#     FEATURES="{usual}" sh roles-pve{major}.sh
#
# STORAGES get disks, FILE_STORAGES images and user data; bridges are zone/bridge, where zone is localnetwork for a
# bridge of the nodes; several are separated by blanks. With POOL (spec.pool of the ProxmoxCluster; it must be there)
# the operator sees and touches only VMs in that pool, and clones only templates in it. FEATURES are what is wanted
# besides making, changing, starting and deleting VMs:
#
{choices}
{within}#
# It may be run again: what is there stays, roles get exactly the privileges below. The secret of the token is printed
# by pveum when it makes the token, and never again. It takes nothing away: for that see `pveum acl list` and
# `pveum acl delete`. Both the user and the token get the roles, as a token has no more than its user.
set -eu

: "${{USER_ID=operator@pve}}" "${{TOKEN=kubernetes}}"
: "${{STORAGES=local-lvm}}" "${{FILE_STORAGES=local}}" "${{BRIDGES=localnetwork/vmbr0}}" "${{POOL=}}"
: "${{FEATURES={usual}}}"

fail() {{
    echo "roles-pve{major}.sh: $*" >&2
    exit 2
}}

wanted() {{
    case " $FEATURES " in *" $1 "*) ;; *) return 1 ;; esac
}}

# The paths of a kind, a line each.
paths() {{
    case $1 in
        cluster) echo / ;;
        nodes) echo /nodes ;;
        vms) if [ -n "$POOL" ]; then echo "/pool/$POOL"; else echo /vms; fi ;;
        storages) for name in $STORAGES; do echo "/storage/$name"; done ;;
        files) for name in $FILE_STORAGES; do echo "/storage/$name"; done ;;
        bridges) for name in $BRIDGES; do echo "/sdn/zones/$name"; done ;;
        mappings) echo /mapping ;;
    esac
}}

# A role with exactly these privileges, for the user and the token, on the paths of a kind. On / it reaches nothing
# below: there it would be power over the nodes.
grant() {{
    pveum role modify "$1" --privs "$3" 2>/dev/null || pveum role add "$1" --privs "$3"
    propagate=1
    [ "$2" != cluster ] || propagate=0
    for path in $(paths "$2"); do
        pveum acl modify "$path" --users "$USER_ID" --tokens "$USER_ID!$TOKEN" --roles "$1" --propagate "$propagate"
    done
}}

[ -n "$USER_ID" ] && [ -n "$TOKEN" ] || fail "USER_ID and TOKEN must not be empty"
for feature in $FEATURES; do
    case " {known} " in
        *" $feature "*) ;;
        *) fail "there is no feature $feature; there are: {known}" ;;
    esac
done
for bridge in $BRIDGES; do
    case $bridge in */*) ;; *) fail "write the bridge $bridge with its zone, such as localnetwork/$bridge" ;; esac
done

pveum user token list "$USER_ID" >/dev/null 2>&1 || pveum user add "$USER_ID" --comment "proxmox-operator"
pveum user token permissions "$USER_ID" "$TOKEN" >/dev/null 2>&1 ||
    pveum user token add "$USER_ID" "$TOKEN" --privsep 1

{blocks}

echo "Done: give the operator the token $USER_ID!$TOKEN, and ask with proxmox-operator check."
"""

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
