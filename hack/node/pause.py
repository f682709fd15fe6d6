"""The image of the sandbox of a pod: one static Go program. Built once, and kept outside the checkout."""

import hashlib
import shutil
import tempfile
from pathlib import Path

import builtonce
from gobuild import Module, Program
from image.engine import Engine

FOLDER = Path(__file__).with_suffix("")
NAME = "localhost/pause:1"


def pause_image() -> Path:
    """Its archive. :raises GoBuildError, HostError: it cannot be built."""
    sources = b"".join(path.read_bytes() for path in sorted(FOLDER.iterdir()))
    cache = builtonce.cache_dir(f"pause-{hashlib.sha256(sources).hexdigest()[:12]}")
    archive = cache / "pause.tar"
    if not archive.exists():
        program = Module("pause", FOLDER, cache, {"pause": Program(".", 5)}).build(["pause"])["pause"]
        with Engine() as engine, tempfile.TemporaryDirectory(dir=cache) as folder:
            shutil.copy(program, folder)
            shutil.copy(FOLDER / "Dockerfile", folder)
            made = Path(folder, "made.tar")
            engine.build(Path(folder), name=NAME, archive=made)
            made.replace(archive)
    return archive
