"""What a person can set: flags, or environment variables of the same name, or the defaults below.

Not here: anything about one Proxmox VE cluster (ProxmoxCluster) or one VM (ProxmoxVM).
"""

import argparse
import re
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from proxmox_operator.api.quantity import parse_duration

ENV_PREFIX = "PROXMOX_OPERATOR_"
SERVICE_ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
LONGEST_WRITE = 45.0
"""Seconds that one call to Proxmox VE may take (proxmox.transport.CALL_TIMEOUT, which a test compares)."""
DEFAULT_NAMESPACE = "proxmox-operator-system"


def own_namespace(file: Path = SERVICE_ACCOUNT_NAMESPACE) -> str:
    """The namespace of the pod we run in; outside of a pod the one that the chart installs to."""
    try:
        return file.read_text().strip() or DEFAULT_NAMESPACE
    except OSError:
        return DEFAULT_NAMESPACE


def _seconds(value: object) -> object:
    """Durations are written as in manifests; plain numbers are seconds."""
    if not isinstance(value, str) or value.replace(".", "", 1).isdigit():
        return value
    return parse_duration(value).total_seconds()


def _names(value: object) -> object:
    return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Settings(BaseSettings):
    """Run the operator until it is told to end. Durations are in seconds, or text such as 5m or 1h30m."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    namespace: str = Field(default_factory=own_namespace, min_length=1)
    """Namespace of the operator, its Lease and the Secrets of ProxmoxClusters. Default: that of its pod, else
    proxmox-operator-system."""
    watch_namespaces: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)] = ()
    """Namespaces whose ProxmoxVMs are kept, separated by commas. Default: all."""
    kubeconfig: Path | None = None
    """File to log in to Kubernetes with. Default: $KUBECONFIG, else the pod's service account, else
    ~/.kube/config."""
    cluster_id: str | None = Field(
        default=None, min_length=1, max_length=63, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
    )
    """Identity of this Kubernetes cluster in the marks on VMs. Default: the UID of kube-system."""
    workers: int = Field(default=16, ge=1, le=256)
    """Objects worked on at the same time."""
    stop_grace: Seconds = 20.0
    """Time that running passes get to end when the operator is told to stop."""
    resync: Seconds = 600.0
    """Interval at which every object is looked at again without a reason."""
    config_reread: Seconds = 300.0
    """Interval at which the whole configuration of every VM is compared with its spec."""
    slow_retry: Seconds = 60.0
    """Interval at which something is looked at again that only a person can mend."""
    kube_timeout: Seconds = 15.0
    """Longest time for one call to the Kubernetes API."""
    leader_election: bool = True
    """Take part in the election; off only for a single process on a developer's machine."""
    lease_name: str = Field(default="proxmox-operator", min_length=1)
    """Name of the Lease that only the leading process holds."""
    lease_duration: Seconds = 60.0
    """A leader that has not renewed its Lease for so long is replaced."""
    lease_renew: Seconds = 10.0
    """Interval at which the leader renews its Lease."""
    lease_poll: Seconds = 2.0
    """Interval at which others look at the Lease, and at which a failed renewal is repeated."""
    lease_timeout: Seconds = 4.0
    """Longest time for one call that concerns the Lease."""
    takeover_delay: Seconds = 45.0
    """Wait before the first write after a leader vanished: as long as a call it sent may take."""
    health_address: str = "0.0.0.0"  # noqa: S104 - the kubelet asks from outside of the pod
    """Address of /livez, /readyz and /metrics."""
    health_port: Port = 8080
    """Port of /livez, /readyz and /metrics; 0 takes a free one."""
    tracing_endpoint: str | None = Field(default=None, pattern=r"^https?://[^/@\s]+(/[^@\s]*)?$")
    """URL of an OpenTelemetry collector (OTLP over HTTP), such as http://collector:4318. Default: no traces."""
    tracing_ratio: float = Field(default=1.0, ge=0, le=1)
    """Share of all passes that become traces, 0 to 1."""
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)] = "INFO"
    """Least important log records that are written: DEBUG, INFO, WARNING or ERROR."""
    log_format: Literal["json", "text"] = "json"
    """One JSON object per line, or text for a terminal."""

    @model_validator(mode="after")
    def _lease_times_fit(self) -> Self:
        if self.lease_timeout >= self.lease_renew:
            raise ValueError(
                "lease-timeout must be shorter than lease-renew: a hanging renewal must not delay the next"
            )
        if self.lease_renew * 2 > self.lease_duration:
            raise ValueError(
                "lease-renew must be at most half of lease-duration: one failed renewal must be survived"
            )
        if self.takeover_delay >= self.lease_duration:
            raise ValueError(
                "takeover-delay must be shorter than lease-duration: else no write is ever allowed"
            )
        if self.leader_election and self._lease_left() <= LONGEST_WRITE:
            raise ValueError(
                f"lease-duration less lease-renew and lease-timeout is {self._lease_left():g} s, and must be more "
                f"than the {LONGEST_WRITE:g} s that a write to Proxmox VE may take: else writes are held back"
            )
        return self

    def _lease_left(self) -> float:
        """Seconds that the Lease still lasts just before a renewal in time arrives."""
        return self.lease_duration - self.lease_renew - self.lease_timeout

    @classmethod
    def from_args(cls, argv: Sequence[str], *, prog: str = "proxmox-operator run") -> Self:
        """Settings from flags, then the environment, then defaults.

        Prints help or the mistake and raises SystemExit, as argparse does.
        """
        parser = argparse.ArgumentParser(
            prog=prog, usage="%(prog)s [OPTIONS]", description=cls.__doc__, epilog=_ENDS, allow_abbrev=False
        )
        cls.add_flags(parser)
        return cls.of(parser, parser.parse_args(argv))

    @classmethod
    def of(cls, parser: argparse.ArgumentParser, options: argparse.Namespace) -> Self:
        """The same of a command that has flags of its own, and that the parser has read already."""
        flags = {name: getattr(options, name, None) for name in cls.model_fields}
        given = {name: value for name, value in flags.items() if value is not None}
        try:
            return cls(**given)
        except ValidationError as error:
            parser.error("; ".join(_complaint(detail, given) for detail in error.errors(include_url=False)))

    @classmethod
    def add_flags(cls, parser: argparse.ArgumentParser, names: Iterable[str] = ()) -> None:
        """One flag for each of these settings, or for all, with its description, default and variable."""
        for name in names or cls.model_fields:
            field = cls.model_fields[name]
            is_duration = any(getattr(each, "func", None) is _seconds for each in field.metadata)
            told = field.default in (None, ()) or field.default_factory is not None
            shown = "" if told else f" Default: {_show(field.default)}{' s' if is_duration else ''}."
            text = f"{field.description}{shown} [${ENV_PREFIX}{name.upper()}]".replace("\n", " ")
            if isinstance(field.default, bool):
                parser.add_argument(_flag(name), action=argparse.BooleanOptionalAction, help=text)
            else:
                metavar = "TIME" if is_duration else _METAVARS.get(name, name.split("_")[-1].upper())
                parser.add_argument(_flag(name), metavar=metavar, help=text)


_ENDS = (
    """exit codes: 0 told to end, 1 could not begin, 2 wrong usage, 3 another process took over the Lease."""
)
_METAVARS = {
    "watch_namespaces": "NAMESPACE,...",
    "kubeconfig": "FILE",
    "workers": "COUNT",
    "tracing_endpoint": "URL",
}


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _show(value: object) -> str:
    match value:
        case bool():
            return "on" if value else "off"
        case float():
            return f"{value:g}"
        case _:
            return str(value)


def _complaint(detail: ErrorDetails, given: Container[str]) -> str:
    message = detail["msg"].removeprefix("Value error, ")
    if not detail["loc"]:
        return message
    name = str(detail["loc"][0])
    where = _flag(name) if name in given else f"${ENV_PREFIX}{name.upper()}"
    value = re.sub(r"//[^/]*@", "//***@", repr(detail["input"]))  # a URL may have a password in it
    return f"{where}: {message} (given: {value})"
