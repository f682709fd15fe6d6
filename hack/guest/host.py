"""The programs that building and running a guest needs of this machine: Debian packages, which `debian` installs."""

import sys

from debian import HostError

# program (or file) -> the Debian package that has it
BUILDING = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "sfdisk": "fdisk",
    "grub-mkimage": "grub-common",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
    "/usr/lib/grub/i386-pc/boot.img": "grub-pc-bin",
    "qemu-img": "qemu-utils",
}
RUNNING = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "setpriv": "util-linux",
    "openssl": "openssl",
    "ssh": "openssh-client",
}
WHAT = "real guests"


class GuestImageError(HostError):
    """The guest image cannot be built; the text is one line that says what to do."""


def say(line: str) -> None:
    """Tell the person who waits what is going on."""
    print(f"[guest] {line}", file=sys.stderr, flush=True)
