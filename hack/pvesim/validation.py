"""What the API schema alone does not see in a config: CPU models, names of options, values that are changed on
the way in. Pure functions.

Facts: validate_vm_cpu_conf, option_exists, clamp_cpu_shares and check_and_pin_machine_string of qemu-server
9.2.6.
"""

from typing import Any

from fakepve import schema

from .core import param_error
from .props import parse, print_props

_MODELS = """
486 Broadwell Broadwell-IBRS Broadwell-noTSX Broadwell-noTSX-IBRS Cascadelake-Server
Cascadelake-Server-noTSX Cascadelake-Server-v2 Cascadelake-Server-v4 Cascadelake-Server-v5
ClearwaterForest Conroe Cooperlake Cooperlake-v2 EPYC EPYC-Genoa EPYC-Genoa-v2 EPYC-IBPB EPYC-Milan
EPYC-Milan-v2 EPYC-Milan-v3 EPYC-Rome EPYC-Rome-v2 EPYC-Rome-v3 EPYC-Rome-v4 EPYC-Rome-v5 EPYC-Turin
EPYC-v3 EPYC-v4 EPYC-v5 GraniteRapids GraniteRapids-v2 GraniteRapids-v3 Haswell Haswell-IBRS
Haswell-noTSX Haswell-noTSX-IBRS Icelake-Client Icelake-Client-noTSX Icelake-Server
Icelake-Server-noTSX Icelake-Server-v3 Icelake-Server-v4 Icelake-Server-v5 Icelake-Server-v6
Icelake-Server-v7 IvyBridge IvyBridge-IBRS KnightsMill Nehalem Nehalem-IBRS Opteron_G1 Opteron_G2
Opteron_G3 Opteron_G4 Opteron_G5 Penryn SandyBridge SandyBridge-IBRS SapphireRapids
SapphireRapids-v2 SapphireRapids-v3 SapphireRapids-v4 SierraForest SierraForest-v2 SierraForest-v3
Skylake-Client Skylake-Client-IBRS Skylake-Client-noTSX-IBRS Skylake-Client-v4 Skylake-Server
Skylake-Server-IBRS Skylake-Server-noTSX-IBRS Skylake-Server-v4 Skylake-Server-v5 Westmere
Westmere-IBRS athlon core2duo coreduo host kvm32 kvm64 max pentium pentium2 pentium3 phenom qemu32
qemu64 x86-64-v2 x86-64-v2-AES x86-64-v3 x86-64-v4
"""
CPU_MODELS = frozenset(_MODELS.split())
QEMU_MACHINE_VERSION = "10.1"
MAX_CPUUNITS = 10_000
WINDOWS = frozenset({"wxp", "w2k", "w2k3", "w2k8", "wvista", "win7", "win8", "win10", "win11"})


def check_cpu(value: Any) -> None:
    """The format `pve-vm-cpu-conf`: a model that QEMU has, or a custom one (of which there are none here).

    :raises PveError: 400 at the field.
    """
    model = parse(value, "cputype").get("cputype", "kvm64")
    if model.startswith("custom-"):
        raise param_error(
            cpu=f"invalid format - Custom cputype '{model.removeprefix('custom-')}' not found\n"
        )
    if model not in CPU_MODELS:
        text = f"Built-in cputype '{model}' is not defined (missing 'custom-' prefix?)"
        raise param_error(cpu=f"invalid format - {text}\n")


def option_exists(key: str) -> bool:
    """True for a config key of a VM."""
    match = schema.load().match("/nodes/any/qemu/100/config")
    declared = match.methods["PUT"]["parameters"]["properties"]
    return schema._prop(declared, key) is not None


def clamp_units(value: Any) -> int:
    """cpuunits as cgroup v2 knows it: at most 10,000."""
    return min(int(value), MAX_CPUUNITS)


def pinned_machine(machine: Any, ostype: Any) -> str | None:
    """The machine of a Windows VM: its type is pinned to the newest version; others stay as they are."""
    conf = parse(machine or "", "type")
    if ostype not in WINDOWS or conf.get("type", "pc") not in ("pc", "q35"):
        return str(machine) if machine else None
    kind = "pc-q35" if conf.pop("type", "pc") == "q35" else "pc-i440fx"
    pinned = f"{kind}-{QEMU_MACHINE_VERSION}"
    return f"{pinned},{print_props(conf)}" if conf else pinned


def bad_booleans(declared: dict[str, Any], values: dict[str, Any]) -> list[tuple[str, str]]:
    """fakepve takes any spelling of a boolean; Proxmox VE takes 1 and 0 (and JSON's own true and false)."""
    out = []
    for name, value in values.items():
        kind = (schema._prop(declared, name) or {}).get("type")
        if kind == "boolean" and isinstance(value, str) and value not in ("0", "1"):
            out.append((name, f"type check ('boolean') failed - got '{value}'"))
    return out
