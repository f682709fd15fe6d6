"""Programs written in Go that development needs: built once from a module that pins them, kept outside the checkout.

Only Go modules are downloaded, and only those that the module's go.sum knows.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import builtonce

PROGRESS_SECONDS = 15


class GoBuildError(Exception):
    """A program cannot be built; the text is one line that says what to do."""


@dataclass(frozen=True)
class Program:
    """One program of a module. ``seconds``: about how long it takes with a cold cache on two cores."""

    package: str
    seconds: int
    linker: str = ""
    tags: str = ""


@dataclass(frozen=True)
class Module:
    """A folder with a go.mod that pins tools only, and the programs that are built from it into ``cache``."""

    name: str
    folder: Path
    cache: Path
    programs: dict[str, Program] = field(repr=False)

    def build(self, names: Iterable[str]) -> dict[str, Path]:
        """Paths of the named programs in the cache; those that are not there are built (minutes, once).

        Raises GoBuildError: no Go, one that is too old, or a build that fails.
        """
        wanted = {name: self.cache / name for name in names}
        if all(os.access(path, os.X_OK) for path in wanted.values()):
            return wanted
        go = shutil.which("go")
        if go is None:
            raise GoBuildError(f"{', '.join(wanted)} not found: install Go {self.go_version()} or newer")
        self.cache.mkdir(parents=True, exist_ok=True)
        waiting = partial(self._say, f"another process builds the {self.name}; waiting for it")
        with builtonce.locked(self.cache / ".lock", waiting):
            for leftover in self.cache.glob(".*.building"):
                leftover.unlink()  # of a build that was killed: whoever makes one holds the lock
            for name, path in wanted.items():
                if not path.exists():  # someone else may have built it while we waited for the lock
                    self._build_one(go, name)
        return wanted

    def go_version(self) -> str:
        """The oldest Go that can build them."""
        return self.pinned(r"^go (\S+)") or "1.26"

    def pinned(self, pattern: str) -> str | None:
        """What the first group of a pattern finds in go.mod."""
        found = re.search(pattern, (self.folder / "go.mod").read_text(), re.M)
        return found[1] if found else None

    def _build_one(self, go: str, name: str) -> None:
        program = self.programs[name]
        unfinished = self.cache / f".{name}.building"
        command = [go, "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-tags", program.tags]
        command += ["-ldflags", f"-s -w {program.linker}", "-o", str(unfinished), program.package]
        environment = os.environ | {
            "CGO_ENABLED": "0",
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
            "GOFLAGS": "",
        }
        self._say(f"{name}: building, about {program.seconds} s the first time")
        started = time.monotonic()
        with (self.cache / f"{name}.log").open("w+") as log:
            process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log)
            try:
                while True:
                    try:
                        status = process.wait(timeout=PROGRESS_SECONDS)
                        break
                    except subprocess.TimeoutExpired:
                        self._say(f"{name}: building, {time.monotonic() - started:.0f} s so far")
            except BaseException:
                process.terminate()
                process.wait()
                raise
            if status != 0:
                log.seek(0)
                raise GoBuildError(self._why(name, log.read(), Path(log.name)))
        unfinished.replace(self.cache / name)
        (self.cache / f"{name}.log").unlink()
        self._say(f"{name}: built in {time.monotonic() - started:.0f} s")

    def _why(self, name: str, output: str, log: Path) -> str:
        if "requires go >=" in output:
            return f"{name} cannot be built: this Go is too old, {self.go_version()} or newer is needed"
        lines = output.strip().splitlines()
        return f"{name} cannot be built: {lines[-1] if lines else 'go build failed'} (all of it: {log})"

    def _say(self, line: str) -> None:
        print(f"[{self.name}] {line}", file=sys.stderr, flush=True)
