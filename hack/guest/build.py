"""Builds the guest image, once per recipe, into the cache; or finds it there.

No loop device and no mount: file systems are made inside the disk's file by tools that take an offset. The result
appears under its name only when it is whole. Root is needed, for the owners of the files in the image.
"""

import hashlib
import os
import shutil
import subprocess
import time
from functools import partial
from pathlib import Path

import builtonce
from debian import NotHereError, ensure, missing, search_path
from guest import recipe
from guest.host import BUILDING, RUNNING, WHAT, GuestImageError, say

GRUB = Path("/usr/lib/grub/i386-pc")
IMAGE = "debian-12.qcow2"
SECTOR = 512
BOOT_CODE = 440  # the rest of the first sector is the partition table
LOG_LINES = 3


def cache_dir() -> Path:
    """Where the image of this recipe is kept: outside the checkout, so that a clean one finds it again."""
    digest = hashlib.sha256(Path(recipe.__file__).read_bytes()).hexdigest()[:12]
    return builtonce.cache_dir(f"guest-{digest}")


def image() -> Path:
    """The image, a qcow2 that boots by itself; built if it is not in the cache (minutes, once).

    :raises NotHereError: it is not in the cache, and this machine cannot build it.
    :raises HostError: building it failed.
    """
    finished = cache_dir() / IMAGE
    if finished.exists():
        return finished
    if os.geteuid() != 0:
        raise NotHereError(
            "the guest image is built by root: run `PYTHONPATH=hack python -m guest build` as root"
        )
    ensure(BUILDING, WHAT)
    finished.parent.mkdir(parents=True, exist_ok=True)
    waiting = partial(say, "another process builds the image; waiting for it")
    with builtonce.locked(finished.with_name(".lock"), waiting):
        if not finished.exists():  # someone else may have built it while we waited
            work = finished.with_name(".building")
            shutil.rmtree(work, ignore_errors=True)  # of a build that was killed
            work.mkdir()
            try:
                _build(work).replace(finished)
            finally:
                shutil.rmtree(work)
    return finished


def unavailable() -> str | None:
    """Why no guest can run here yet, None if one can."""
    if lacking := missing(RUNNING):
        return f"{', '.join(lacking)} missing"
    return None if (cache_dir() / IMAGE).exists() else "the guest image is not built"


def kernel() -> Path:
    """The kernel of the image, once that is built."""
    return cache_dir() / "vmlinuz"


def _build(work: Path) -> Path:
    started = time.monotonic()
    say("image: Debian packages, about 90 s the first time")
    root = _root(work)
    say(f"image: disk, {time.monotonic() - started:.0f} s so far")
    disk = _disk(work, root)
    shutil.copyfile((root / "vmlinuz").resolve(), kernel())
    packed = work / "packed.qcow2"
    _run(
        work,
        "qemu-img",
        "convert",
        "-c",
        "-O",
        "qcow2",
        "-o",
        "compression_type=zstd",
        str(disk),
        str(packed),
    )
    say(f"image: built in {time.monotonic() - started:.0f} s, {packed.stat().st_size / recipe.MIB:.0f} MiB")
    return packed


def _root(work: Path) -> Path:
    """A folder with everything that is going to be on the root partition."""
    files = work / "files"
    for name, (content, executable) in recipe.FILES.items():
        path = files / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(0o755 if executable else 0o644)
    root = work / "root"
    _run(
        work,
        "mmdebstrap",
        "--variant=minbase",
        "--mode=root",
        "--format=directory",
        f"--include={','.join(recipe.PACKAGES)}",
        *(f"--dpkgopt=path-exclude={path}" for path in recipe.EXCLUDED_PATHS),
        f"--essential-hook=cp -a '{files}/.' \"$1/\"",
        f"--customize-hook=chroot \"$1\" sh -c '{recipe.FINISH}'",
        recipe.SUITE,
        str(root),
    )
    return root


def _disk(work: Path, root: Path) -> Path:
    """The raw disk: boot sector, boot loader, and the root file system."""
    disk = work / "disk.raw"
    with disk.open("wb") as out:
        out.truncate((recipe.ROOT_START + recipe.ROOT_SIZE) * recipe.MIB)
    table = f"label: dos\nstart={recipe.ROOT_START}MiB, type=83, bootable\n"
    _run(work, "sfdisk", "--quiet", str(disk), input=table)
    offset, size = recipe.ROOT_START * recipe.MIB, f"{recipe.ROOT_SIZE}M"
    _run(
        work,
        "mke2fs",
        "-q",
        "-t",
        "ext4",
        "-L",
        "root",
        "-d",
        str(root),
        "-E",
        f"offset={offset}",
        str(disk),
        size,
    )
    (work / "grub.cfg").write_text(recipe.GRUB_CONFIG)
    core = work / "core.img"
    prefix = ["--prefix=(hd0,msdos1)/boot/grub", f"--config={work / 'grub.cfg'}"]
    _run(work, "grub-mkimage", "-O", "i386-pc", *prefix, f"--output={core}", *recipe.GRUB_MODULES)
    with disk.open("r+b") as out:
        # What grub-install would do, less the mounting: boot.img expects the core in the sector after its own.
        out.write((GRUB / "boot.img").read_bytes()[:BOOT_CODE])
        out.seek(SECTOR)
        out.write(core.read_bytes())
    return disk


def _run(work: Path, *argv: str, input: str = "") -> None:
    """Run a program; its output goes to a log whose last words are in the error."""
    log = work.parent / "build.log"
    with log.open("a") as out:
        done = subprocess.run(
            argv,
            input=input,
            text=True,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PATH": search_path(), "LC_ALL": "C"},
            check=False,
        )
    if done.returncode != 0:
        words = " ".join(log.read_text(errors="replace").strip().splitlines()[-LOG_LINES:])
        raise GuestImageError(f"{argv[0]} failed: {words} (all of it: {log})")
