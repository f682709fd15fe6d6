"""Which privileges a feature needs on which path, by the operator's own preflight.

Paths are shown with placeholders: the names are those of the ProxmoxCluster, or of the VM.
"""

from collections.abc import Sequence

from doctables.markdown import table
from proxmox_operator.proxmox.permissions import Feature, Scope, needs

_IN_ANY_CASE = Scope().features
_TEMPLATE = 9000
_PATHS = {f"/vms/{_TEMPLATE}": "/vms/TEMPLATE"}


def privileges() -> str:
    """A line for each feature and path."""
    heads = ("for", "on", "Proxmox VE 9", "Proxmox VE 8")
    return table(heads, [row for feature in Feature for row in _rows(feature)])


def _rows(feature: Feature) -> list[Sequence[str]]:
    newer, older = _needs(feature, 9), _needs(feature, 8)
    what = feature.value + ("" if feature in _IN_ANY_CASE else ", where wanted")
    return [
        (what, f"`{path}`", needed, "the same" if older[path] == needed else older[path])
        for path, needed in newer.items()
    ]


def _needs(feature: Feature, major: int) -> dict[str, str]:
    """What is needed, by path."""
    scope = Scope(
        storages=("STORAGE",), bridges=("localnetwork/BRIDGE",), templates=(_TEMPLATE,), features=(feature,)
    )
    found: dict[str, list[str]] = {}
    for path, alternatives, _ in needs(scope, major):
        words = " or ".join(f"`{name}`" for name in alternatives)
        found.setdefault(_PATHS.get(path, path), []).append(words)
    return {path: ", ".join(words) for path, words in found.items()}
