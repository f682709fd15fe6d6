"""When two values of a VM's config mean the same, and how to change parts of one without touching the rest.

Proxmox hands values back in other spellings than they were written in: ``on`` and ``1``, ``5`` and ``5.0``, a default
spelled out or left out. The *type* of a default says how a value is read: a flag, a number, or text.
"""

from collections.abc import Mapping

from proxmox_operator.planning.propstring import parse_flag

Value = bool | int | float | str | None


def meaning(text: str | None, default: Value) -> Value:
    """What ``text`` says, read as ``default`` is typed; ``default`` where there is none.

    Total: what cannot be read so stays text, and then equals nothing but itself.
    """
    if text is None:
        return default
    try:
        if isinstance(default, bool):
            return parse_flag(text)
        return float(text) if isinstance(default, int | float) else text
    except ValueError:
        return text


def whole(text: str | None, default: int) -> int:
    """The whole number that ``text`` is; ``default`` where there is none or it cannot be read."""
    return int(text) if text is not None and text.isdecimal() and text.isascii() else default


def spelled(value: Value) -> str:
    """A value as it is written into a config."""
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def amended(
    current: Mapping[str, str], wanted: Mapping[str, Value], defaults: Mapping[str, Value]
) -> dict[str, str]:
    """``current`` with the parts that ``wanted`` names; None means the part's default, which is left out.

    A part that means the same already keeps its spelling, since Proxmox compares text: respelling a default would
    wait for a cold boot, or unplug a network device. Parts that ``wanted`` does not name stay as they are.
    """
    result = dict(current)
    for part, value in wanted.items():
        default = defaults.get(part)
        goal = default if value is None else value
        if meaning(result.get(part), default) == goal:
            continue
        if goal == default:
            del result[part]
        else:
            result[part] = spelled(goal)
    return result
