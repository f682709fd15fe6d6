"""The settings of ``proxmox-operator run``: flags, variables, defaults."""

from doctables.markdown import plain, table, told
from proxmox_operator.engine.settings import ENV_PREFIX, Settings


def settings() -> str:
    """A line for each setting; a default that depends on where the operator runs is told in words."""
    rows = []
    for name, field in Settings.model_fields.items():
        flag = name.replace("_", "-")
        shown = f"`--{flag}`, `--no-{flag}`" if isinstance(field.default, bool) else f"`--{flag}`"
        meaning, default = told(field.description or "")
        rows.append(
            (
                shown,
                f"`{ENV_PREFIX}{name.upper()}`",
                plain(default) or _default(field.default),
                plain(meaning),
            )
        )
    return table(("flag", "variable", "default", "meaning"), rows)


def _default(value: object) -> str:
    match value:
        case bool():
            return f"`{str(value).lower()}`"
        case float():
            return f"`{value:g}s`"
        case _:
            return f"`{value}`"
