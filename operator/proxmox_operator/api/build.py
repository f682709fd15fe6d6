"""``spec.build`` of a VMTemplate: the copy is booted once and changed before it becomes a template.

Sizes are bounded so that each step goes to the guest in one call of its agent, whose input is at most 64 KiB (Proxmox
API, ``agent/exec``) of base64. What is done with a step is in ``guest.build`` and ``planning.templates.building``.
"""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from proxmox_operator.api.base import ListMap, Matches, Rule, Wire
from proxmox_operator.api.scalars import BridgeName, SeedStorageName, VlanTag

MAX_SCRIPT = 40_000
"""Bytes in UTF-8 of a step's script."""

MAX_FILES = 24_000
"""The same of all files of a step: they are encoded twice."""

StepName = Annotated[
    str,
    Field(max_length=40),
    Matches(
        pattern="^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
        message="name of a build step must be lower-case letters, digits and dashes, such as web-server",
    ),
]
PackageName = Annotated[
    str,
    Field(max_length=100),
    Matches(
        pattern="^[A-Za-z0-9][A-Za-z0-9.+:=~_-]*$",
        message="packages must list names as the guest's package manager knows them, such as nginx or nginx=1.26.3-3",
    ),
]
FilePath = Annotated[
    str,
    Field(max_length=200),
    Matches(
        pattern="^(/[A-Za-z0-9_@%+=:,.-]+)+$",
        also="!self.matches('/[.][.]?(/|$)')",
        message="path must be absolute, without blanks and without . and .., such as /etc/motd",
    ),
]
FileMode = Annotated[
    str,
    Field(max_length=5),
    Matches(pattern="^0?[0-7]{3,4}$", message='mode must be octal digits in quotes, such as "0644"'),
]
FileOwner = Annotated[
    str,
    Field(max_length=65),
    Matches(
        pattern="^[a-z_][a-z0-9_-]{0,31}(:[a-z_][a-z0-9_-]{0,31})?$",
        message="owner must be a user of the guest, or user:group, such as www-data:www-data",
    ),
]
BuildTimeout = Annotated[
    str,
    Field(max_length=16),
    Matches(
        pattern="^([0-9]+h)?([0-9]+m)?([0-9]+s)?$",
        also="self != '' && duration(self) >= duration('1s') && duration(self) <= duration('24h')",
        message="spec.build.timeout must be a duration from 1s to 24h, such as 30m",
    ),
]


class BuildFile(Wire):
    """File that is written into the guest; its folder is made where it is missing."""

    path: FilePath
    """Where it is, such as /etc/nginx/conf.d/site.conf; what is there is replaced. Required."""
    content: Annotated[str, Field(max_length=MAX_FILES)] = ""
    """Content as UTF-8. It is in every VM made from the template: no secrets. Default: empty."""
    mode: FileMode = "0644"
    """Permissions in octal digits. Default: 0644."""
    owner: FileOwner = "root:root"
    """User, or user:group, who must exist in the guest by then. Default: root:root."""


class BuildStep(Wire):
    """One thing that is done in the guest, as root; the next one begins when it has succeeded."""

    rules = (
        Rule(
            cel="[has(self.packages), has(self.files), has(self.script)].filter(set, set).size() == 1",
            message="a build step does one thing: set either packages, files or script",
        ),
        Rule(
            cel=(
                "!has(self.files) || self.files.map(f, has(f.content) ? size(bytes(f.content)) : 0).sum()"
                f" <= {MAX_FILES}"
            ),
            message=f"files of one build step must not hold more than {MAX_FILES} bytes together: make two steps of it",
            field=".files",
        ),
        Rule(
            cel=f"!has(self.script) || size(bytes(self.script)) <= {MAX_SCRIPT}",
            message=(
                f"script of a build step must not have more than {MAX_SCRIPT} bytes: make two steps of it, or have it "
                "fetch the rest"
            ),
            field=".script",
        ),
    )

    name: StepName
    """How messages name it, unique in the build. Required."""
    packages: Annotated[tuple[PackageName, ...], Field(min_length=1, max_length=100)] | None = None
    """Packages that the guest's package manager installs (apt-get, dnf, yum, zypper or apk), 1 to 100. Needs network.
    Default: none; one of packages, files and script is set."""
    files: Annotated[tuple[BuildFile, ...], Field(min_length=1, max_length=20)] | None = None
    """Files that are written, 1 to 20. Default: none; one of packages, files and script is set."""
    script: Annotated[str, Field(max_length=MAX_SCRIPT)] | None = None
    """Script for /bin/sh -e, or for what its first line names after #!. It fails the build by an exit code other than
    0, and must not reboot the guest. Default: none; one of packages, files and script is set."""


class BuildNetwork(Wire):
    """Network device that the guest has while it is built; it asks for its address by DHCP."""

    bridge: BridgeName
    """Bridge or SDN vnet of the nodes, such as vmbr0. Required."""
    vlan: VlanTag | None = None
    """VLAN tag of the traffic, 1 to 4094. Default: untagged."""


class Build(Wire):
    """What is done in the guest before the copy becomes a template. It is booted once, changed, and sealed: clones get
    host keys and a machine-id of their own."""

    rules = (
        Rule(
            cel="has(self.network) || self.steps.all(s, !has(s.packages))",
            message="spec.build.steps installs packages, which come from a network: set spec.build.network",
            field=".steps",
        ),
    )

    steps: Annotated[tuple[BuildStep, ...], Field(min_length=1, max_length=20), ListMap("name")]
    """What is done, in this order, 1 to 20 steps. Required."""
    timeout: BuildTimeout = "30m"
    """How long the build of one copy may take, from the upload of its seed to the shutdown, 1s to 24h. Default: 30m."""
    network: BuildNetwork | None = None
    """Network device of the guest while it is built; the template has none. With it qemu-guest-agent is installed where
    the image lacks it. Default: none."""
    seed_storage: SeedStorageName | None = None
    """Proxmox storage that takes ISO images, for the seed of the boot, which is deleted afterwards. Default:
    defaults.seedStorage of the ProxmoxCluster."""
    keep_failed: bool = False
    """Whether a copy whose build has failed is left for a look, until the spec is edited; else it is destroyed, and
    made again. Default: false."""


BuildPhase = Literal["Seeding", "Attaching", "Starting", "Running", "Stopping", "Stripping"]


class CopyBuild(Wire):
    """How far the build of a copy is, or has come."""

    phase: BuildPhase
    """What was asked for last: Seeding uploads the seed, Attaching gives it to the VM, Running is at the steps,
    Stripping takes off what was only for the build."""
    step: int = 0
    """Step of spec.build.steps in phases Running and Stopping, from 1; 0 is the boot, one more than there are steps the
    sealing."""
    begun: AwareDatetime
    """When the build began; the timeout counts from then."""
    seed: str | None = None
    """Proxmox volume of the seed, as long as it may exist."""
    failure: str | None = None
    """Reason for which the build has failed."""
    generation: int | None = None
    """Generation of the VMTemplate whose build has failed: a copy that is kept goes with a later one."""
    message: str | None = None
    """What it has failed of, with the last words of the step."""
