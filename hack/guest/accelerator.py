"""Whether guests of this machine run under KVM or under emulation.

That /dev/kvm can be opened says little inside of virtual machines: QEMU may start and a kernel never get anywhere.
So the image's own kernel is booted once, until it panics for want of a root disk.
"""

import os
import subprocess
from functools import cache
from pathlib import Path

from guest.build import cache_dir, image, kernel
from guest.host import say

TRIAL_SECONDS = 10
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@cache
def accelerator() -> str:
    """`kvm` or `tcg`; the environment variable GUEST_ACCELERATOR decides, if it is set.

    :raises HostError: the image, which has the kernel to try, cannot be had.
    """
    if chosen := os.environ.get("GUEST_ACCELERATOR"):
        return chosen
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR))
    except OSError:
        return "tcg"
    image()
    verdict = cache_dir() / f"accelerator-{BOOT_ID.read_text().strip()}"
    if not verdict.exists():
        verdict.write_text("kvm" if _kvm_boots() else "tcg")
    return verdict.read_text()


def _kvm_boots() -> bool:
    argv = ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-no-reboot", "-m", "256"]
    argv += ["-accel", "kvm", "-cpu", "host,-arch-capabilities"]
    argv += ["-kernel", str(kernel()), "-append", "quiet panic=-1"]
    try:
        done = subprocess.run(argv, capture_output=True, timeout=TRIAL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        say("KVM is there, but no kernel boots under it: guests are emulated")
        return False
    return done.returncode == 0
