"""Where the API server is and who we are: a kubeconfig, or the service account of our pod.

The official client reads both (exec plugins and rotating tokens included). Nothing is stored here and no
global default is set; kopf's login handler builds its ConnectionInfo from the same `Configuration`.
"""

import os
from typing import Any

import yaml
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from proxmox_operator import errors

DEFAULT_KUBECONFIG = "~/.kube/config"


class LoginFailed(errors.NeedsHuman):
    """There are no usable credentials for a Kubernetes API server."""

    default_reason = "KubernetesLoginFailed"


async def log_in(kubeconfig: str | os.PathLike[str] | None = None) -> Configuration:
    """Credentials from `kubeconfig`, else $KUBECONFIG, else the pod's service account, else ~/.kube/config.

    Raises LoginFailed, which says what was looked for.
    """
    path = kubeconfig or os.environ.get("KUBECONFIG")
    in_pod = not path and "KUBERNETES_SERVICE_HOST" in os.environ
    chosen = os.path.expanduser(path or DEFAULT_KUBECONFIG)  # noqa: ASYNC240 - looks at no file
    if not in_pod and not any(os.path.exists(file) for file in chosen.split(os.pathsep)):  # noqa: ASYNC240 - once
        raise LoginFailed(
            f"cannot log in to Kubernetes: there is no file {chosen}. "
            "Give --kubeconfig or KUBECONFIG, or run in a pod with a service account"
        )
    configuration = Configuration()
    try:
        if in_pod:
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            await load_kube_config(  # type: ignore[no-untyped-call]
                config_file=chosen, client_configuration=configuration
            )
    except (ConfigException, OSError, yaml.YAMLError, ValueError) as error:
        raise LoginFailed(
            f"cannot log in to Kubernetes with {'the service account' if in_pod else chosen}: {error}. "
            "Give --kubeconfig or KUBECONFIG, or run in a pod with a service account"
        ) from error
    return configuration


async def bearer_token(configuration: Configuration) -> str | None:
    """The current token without its scheme, renewed first where due; None where we log in otherwise."""
    header = await configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
    if not header:
        return None
    scheme, _, token = header.partition(" ")
    return (token if scheme.lower() == "bearer" else header).strip()


async def connection(configuration: Configuration) -> dict[str, Any]:
    """The arguments of `kopf.ConnectionInfo`, with a token that is fresh now: call it in kopf's login
    handler."""
    return {
        "server": configuration.host,
        "ca_path": configuration.ssl_ca_cert,
        "ca_data": configuration.ca_cert_data,
        "insecure": not configuration.verify_ssl,
        "token": await bearer_token(configuration),
        "certificate_path": configuration.cert_file,
        "private_key_path": configuration.key_file,
        "proxy_url": configuration.proxy,
    }
