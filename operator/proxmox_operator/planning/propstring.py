"""Proxmox property strings (``local-lvm:vm-100-disk-0,size=8G,ssd=1``) and other little formats of VM
configs.

Proxmox sends them back re-ordered and with parts it generated, so they are compared parsed, never as text.
Nothing here knows what a key means.
"""

import re
from collections.abc import Mapping

_KEY = re.compile(r"^[A-Za-z][A-Za-z0-9_-]*\Z", re.ASCII)
_TRUE = frozenset({"1", "on", "yes", "true"})
_FALSE = frozenset({"0", "off", "no", "false"})


def parse_props(text: str, default: str | None) -> dict[str, str]:
    """The parts of a property string, in their order; a part without a key is the value of ``default``.

    Total: parts that cannot be read (no key and no default, nothing on one side of the ``=``) are left out, as
    Proxmox has none either. A volume id with ``=`` in it stays one value, since no key holds ``:`` or ``/``.
    """
    props: dict[str, str] = {}
    for part in text.split(","):
        key, separator, value = part.strip().partition("=")
        if separator and _KEY.match(key):
            if value.strip() and value.isprintable():
                props[key] = value.strip()
        elif default is not None and part.strip() and part.isprintable():
            props[default] = part.strip()
    return props


def render_props(props: Mapping[str, str], default: str | None) -> str:
    """The property string of ``props``: the default key's value first and bare, the rest in order.

    Raises ``ValueError`` for what would be read back differently: a comma, line break or outer blank in a
    value, or a bad key.
    """
    for key, value in props.items():
        if _KEY.match(key) is None:
            raise ValueError(f"{key!r} is not a key of a property string")
        if not value or value != value.strip() or "," in value or not value.isprintable():
            raise ValueError(f"the value of {key} cannot be written into a property string: {value!r}")
    parts = [f"{key}={value}" for key, value in props.items() if key != default]
    if default is not None and default in props:
        value = props[default]
        bare = _KEY.match(value.partition("=")[0]) is None or "=" not in value
        parts.insert(0, value if bare else f"{default}={value}")
    return ",".join(parts)


def parse_flag(text: str) -> bool:
    """A boolean as Proxmox and people write it (1/on/yes/true); raises ``ValueError`` for anything else."""
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(f"{text!r} is not a Proxmox boolean (1 or 0)")


def parse_tags(text: str) -> tuple[str, ...]:
    """Tags sorted, lower-cased and each once; Proxmox accepts ``;``, ``,`` and blanks between them."""
    return tuple(sorted({tag for tag in re.split(r"[;,\s]+", text.lower()) if tag}))
