"""`python -m sbom` writes what the image's Python environment is made of, as CycloneDX: the lock file with its hashes.

What the lock file does not say is added: our own version, and who needs whom, from the metadata of the packages as they
are installed here (in the same versions, which a test holds). Not in it: the base image, whose publisher has its own.
"""

import json
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from proxmox_operator import __version__

ROOT = Path(__file__).resolve().parent.parent
SBOM = ROOT / "build" / "sbom.cdx.json"


def main() -> None:
    argv = [sys.executable, "-m", "cyclonedx_py", "requirements", "requirements/runtime.txt"]
    argv += ["--pyproject", "pyproject.toml", "--output-reproducible", "--spec-version", "1.6"]
    bom = json.loads(subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    ours = bom["metadata"]["component"]
    ours |= {"version": __version__, "purl": f"pkg:pypi/{ours['name']}@{__version__}"}
    references = {component["name"]: component["bom-ref"] for component in [ours, *bom["components"]]}
    bom["dependencies"] = [
        {
            "ref": reference,
            "dependsOn": sorted(references[name] for name in _needs(package) & references.keys()),
        }
        for package, reference in references.items()
    ]
    SBOM.parent.mkdir(exist_ok=True)
    SBOM.write_text(json.dumps(bom, indent=2) + "\n")
    print(SBOM.relative_to(ROOT))


def _needs(package: str) -> set[str]:
    needed = [Requirement(line) for line in distribution(package).requires or ()]
    return {
        canonicalize_name(each.name)
        for each in needed
        if not each.marker or each.marker.evaluate({"extra": ""})
    }


if __name__ == "__main__":
    main()
