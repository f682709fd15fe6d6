"""A base image of our own, for where no registry can be reached: Debian 13 with its Python 3.13.

Like the slim images of Python it is Debian less its documentation; unlike them it has Debian's interpreter. Built
once per recipe, which is this file, and kept outside the checkout. Never published: what is released is on the base of
the Dockerfile.
"""

import hashlib
import tempfile
from functools import partial
from pathlib import Path

import builtonce
from debian import ensure
from image.engine import Engine, run, say

WHAT = "images without a registry"
BUILDING = {
    "mmdebstrap": "mmdebstrap",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
}
SUITE = "trixie"
PACKAGES = ["ca-certificates", "python3", "python3-venv"]
EXCLUDED_PATHS = ["/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*"]
DOCKERFILE = """\
FROM scratch
ADD root.tar /
CMD ["python3"]
"""


def debian_base(engine: Engine) -> str:
    """Its name for a build. :raises HostError: it is not in the cache, and cannot be built here."""
    cache = builtonce.cache_dir(f"base-{hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]}")
    archive = cache / "base.tar"
    if not archive.exists():
        ensure(BUILDING, WHAT)
        cache.mkdir(parents=True, exist_ok=True)
        waiting = partial(say, "another process builds the base; waiting for it")
        with builtonce.locked(cache / ".lock", waiting), tempfile.TemporaryDirectory(dir=cache) as work:
            if not archive.exists():  # someone else may have built it while we waited
                say("base: Debian packages, about 30 s the first time")
                _build(engine, Path(work)).replace(archive)
    return f"oci-archive:{archive}"


def _build(engine: Engine, work: Path) -> Path:
    root, archive = work / "root.tar", work / "base.tar"
    run(
        "mmdebstrap",
        "--variant=minbase",
        "--mode=root",
        f"--include={','.join(PACKAGES)}",
        "--keyring=/usr/share/keyrings/debian-archive-keyring.gpg",
        '--aptopt=Acquire::Languages "none"',
        *(f"--dpkgopt=path-exclude={path}" for path in EXCLUDED_PATHS),
        SUITE,
        str(root),
    )
    (work / "Dockerfile").write_text(DOCKERFILE)
    engine.build(work, name="base", archive=archive)
    return archive
