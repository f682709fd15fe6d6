"""Known vulnerabilities of what is shipped, by pip-audit: ``make audit``. Needs its advisory service.

What could not be looked up is a failure: silence is not the same as nothing known.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def audit(lock: Path) -> list[str]:
    """What is known against the packages of a lock file, and which could not be looked up."""
    options = ["--require-hashes", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return list(verdict(done.stdout, done.stderr))


def verdict(out: str, err: str) -> Iterator[str]:
    """What pip-audit's output means; nothing where all packages were looked up, and nothing is known of them."""
    try:
        found = json.loads(out)["dependencies"]
    except ValueError:
        last = err.strip().splitlines()[-1:] or ["no reason given"]
        yield f"pip-audit could not ask its advisory service: {last[0][:300]}"
        return
    unknown = [each["name"] for each in found if "skip_reason" in each]
    if len(unknown) == len(found):
        yield "the advisory service knows no package at all: it cannot be reached from here"
    elif unknown:
        yield f"the advisory service knows nothing of {len(unknown)} of {len(found)} packages: {', '.join(unknown)}"
    for each in found:
        yield from (_told(each, known) for known in each.get("vulns", ()))


def _told(package: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    better = ", ".join(known["fix_versions"]) or "no version yet"
    return f"{package['name']} {package['version']}: {known['id']}, mended in {better}"
