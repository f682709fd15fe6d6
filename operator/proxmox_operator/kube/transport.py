"""Sends a `Call` over HTTPS and tells apart what the answer, or its absence, means.

Not here: retries. A write whose answer was lost may have happened, and only its caller can look.
"""

import json
import ssl
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio.client import Configuration

from proxmox_operator import __version__, errors
from proxmox_operator.kube import errors as kube_errors
from proxmox_operator.kube.client import Call
from proxmox_operator.kube.login import bearer_token
from proxmox_operator.kube.resources import SECRETS

_METHODS = {
    "get": "GET",
    "list": "GET",
    "create": "POST",
    "patch": "PATCH",
    "replace": "PUT",
    "delete": "DELETE",
}
_MAYBE_DONE = (500, 502, 504)
_LONGEST_QUOTE = 600


class AioTransport:
    """Calls over one pool of connections. Use in the event loop it is made in, and `close` it.

    `timeout` is for a whole call, in seconds. Credentials come from the official client's Configuration and
    are renewed by it; proxies of the environment are not used.
    """

    def __init__(self, configuration: Configuration, *, timeout: float = 15.0, connections: int = 50) -> None:
        self._configuration = configuration
        self._base = configuration.host.rstrip("/")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, ssl=_tls(configuration)),
            timeout=aiohttp.ClientTimeout(total=timeout, connect=min(5.0, timeout)),
            headers={"User-Agent": f"proxmox-operator/{__version__}", "Accept": "application/json"},
            trust_env=False,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def send(self, call: Call) -> dict[str, Any]:
        """The answer's JSON. Raises as `client.Kube` says."""
        headers = {}
        token = await bearer_token(self._configuration)
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = None
        if call.body is not None:
            data = json.dumps(call.body, separators=(",", ":")).encode()
            headers["Content-Type"] = (
                "application/merge-patch+json" if call.verb == "patch" else "application/json"
            )
        try:
            async with self._session.request(
                _METHODS[call.verb],
                self._base + path_of(call),
                data=data,
                headers=headers,
                proxy=self._configuration.proxy,
                server_hostname=self._configuration.tls_server_name,
                allow_redirects=False,
            ) as response:
                content = await response.read()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            # Also a certificate that does not verify: nothing was sent.
            raise errors.Unreachable(f"{call}: the Kubernetes API server does not answer: {error}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unanswered(call, str(error) or type(error).__name__) from error
        if response.status >= 300:
            raise refusal(call, response.status, content, response.headers.get("Retry-After", ""))
        try:
            answer: dict[str, Any] = json.loads(content)
        except ValueError as error:
            raise _unanswered(call, "the answer is not JSON") from error
        return answer


def path_of(call: Call) -> str:
    """The path and query of a call, quoted."""
    resource = call.resource
    core = ["api", resource.version] if resource.version else ["apis"]  # without a version: all groups
    parts = ["apis", resource.group, resource.version] if resource.group else core
    if resource.namespaced and call.namespace:
        parts += ["namespaces", call.namespace]
    parts += [part for part in (resource.plural, call.name, call.subresource) if part]
    path = "/" + "/".join(quote(part, safe="") for part in parts)
    return f"{path}?{urlencode(call.params)}" if call.params else path


def refusal(call: Call, status: int, content: bytes, retry_after: str = "") -> errors.OperatorError:
    """The error for an answer that is not a success."""
    told = _parse_status(content)
    reason = told.get("reason", "")
    message = f"{call}: {_quote(call, told, content)} (HTTP {status})"
    if status == 404:
        return kube_errors.NotFound(message)
    if status == 409:
        return (
            kube_errors.AlreadyExists(message) if reason == "AlreadyExists" else kube_errors.Conflict(message)
        )
    if status == 410:
        return kube_errors.Conflict(message)
    if status == 401:
        return kube_errors.Unauthorized(
            f"{message}; check the operator's service account token or kubeconfig"
        )
    if status == 403:
        return _forbidden(call, told, message)
    if status in (429, 503):
        seconds = float(retry_after) if retry_after.isdigit() else 0.0
        return kube_errors.Throttled(message, after=seconds)
    if status >= 500:
        return (
            errors.AnswerLost(message)
            if call.writes and status in _MAYBE_DONE
            else errors.Unreachable(message)
        )
    return kube_errors.Invalid(message)


def _forbidden(call: Call, told: dict[str, Any], message: str) -> errors.OperatorError:
    causes = (told.get("details") or {}).get("causes") or ()
    if any(cause.get("reason") == "NamespaceTerminating" for cause in causes):
        return kube_errors.NamespaceTerminating(message)
    resource = call.resource
    what = f"{resource.plural}/{call.subresource}" if call.subresource else resource.plural
    verb = {"replace": "update"}.get(call.verb, call.verb)
    return kube_errors.Forbidden(
        f"{message}; the operator's role must grant {verb!r} on {what!r} in API group {resource.group!r}"
    )


def _parse_status(content: bytes) -> dict[str, Any]:
    """The ``Status`` object of a refusal; a proxy in between may answer anything."""
    try:
        told = json.loads(content)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _quote(call: Call, told: dict[str, Any], content: bytes) -> str:
    if call.resource == SECRETS and call.writes:
        return str(told.get("reason", "refused"))  # the server quotes invalid values in its message
    words = str(told.get("message") or content[:_LONGEST_QUOTE].decode(errors="replace") or "no explanation")
    return words if len(words) <= _LONGEST_QUOTE else f"{words[:_LONGEST_QUOTE]}..."


def _unanswered(call: Call, why: str) -> errors.OperatorError:
    if call.writes:
        return errors.AnswerLost(f"{call}: sent, but no answer from the Kubernetes API server: {why}")
    return errors.Unreachable(f"{call}: no answer from the Kubernetes API server: {why}")


def _tls(configuration: Configuration) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert, cadata=configuration.ca_cert_data)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, keyfile=configuration.key_file)
    if configuration.disable_strict_ssl_verification:
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
