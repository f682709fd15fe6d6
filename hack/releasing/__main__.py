"""``python -m releasing check | notes | audit | chart``. Exit code 0 when all is well, 1 when it is not."""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import argohealth
import chartfiles
import doctables
import pveroles
from gotools import GoBuildError
from proxmox_operator.api import crds
from releasing import changelog, checks
from releasing.audit import audit
from releasing.chart import publish

ROOT = Path(__file__).resolve().parents[2]


GENERATED: dict[str, Callable[[], Iterable[tuple[Path, str]]]] = {
    "make crds": lambda: ((ROOT / "crds" / name, text) for name, text in crds.files().items()),
    "make docs-tables": lambda: doctables.files().items(),
    "make argocd": lambda: ((argohealth.FOLDER / name, text) for name, text in argohealth.files().items()),
    "make pve-roles": lambda: ((pveroles.FOLDER / name, text) for name, text in pveroles.files().items()),
    "make chart": lambda: chartfiles.files().items(),
}
"""What makes files of others in the repository, and these files as they would be made now."""


def stale() -> Iterator[str]:
    """Which generated files are not as they would be made now."""
    for command, files in GENERATED.items():
        try:
            yield from checks.stale(files(), command)
        except GoBuildError as error:
            yield f"what `{command}` makes cannot be compared: {error}"


def check() -> int:
    """Ask everything; whether there was no objection."""
    tag = checks.last_release(ROOT)
    asked = {
        "the version is the same everywhere": checks.consistent(ROOT),
        "all is committed": checks.clean(ROOT),
        "what is generated is not stale": stale(),
        "the locks are up to date, and free of AGPL": checks.locked(ROOT),
        "wheel and sdist hold our package alone": checks.built(ROOT),
        f"the CRDs fit those of {tag}" if tag else "there is no release before this one, so its CRDs fit": (
            checks.compatible(ROOT)
        ),
    }
    print(f"Release of {checks.version(ROOT)}")
    # Not any(): all that is in the way is told at once.
    return int(sum([told(what, objections) for what, objections in asked.items()]) > 0)


def told(what: str, objections: Iterable[str]) -> bool:
    """Print the answer to one question; whether there was an objection."""
    found = list(objections)
    print(f"  {'FAILED' if found else 'ok    '}  {what}", flush=True)
    for each in found:
        print(f"            {each}")
    return bool(found)


def notes() -> int:
    """Print what the changelog says of the version."""
    text = changelog.section((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), checks.version(ROOT))
    if text is None:
        print(f"CHANGELOG.md has no section for {checks.version(ROOT)}", file=sys.stderr)
        return 1
    print(text)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m releasing", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="whether HEAD can be released")
    commands.add_parser("notes", help="what the changelog says of the version")
    commands.add_parser("audit", help="what is known against the packages that are shipped")
    chart = commands.add_parser("chart", help="a copy of the chart for the image that was published")
    for name in ("--registry", "--repository", "--digest", "--output"):
        chart.add_argument(name, required=True)
    given = parser.parse_args()
    match given.command:
        case "check":
            return check()
        case "notes":
            return notes()
        case "audit":
            lock = ROOT / "requirements" / "runtime.txt"
            return int(told("nothing is known against what is shipped", audit(lock)))
        case _:
            image = {"registry": given.registry, "repository": given.repository, "digest": given.digest}
            print(publish(chartfiles.CHART, Path(given.output), **image))
            return 0


if __name__ == "__main__":
    sys.exit(main())
