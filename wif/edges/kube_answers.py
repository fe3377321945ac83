"""What the Kubernetes API's answers mean: refusals as errors that name the missing right, and small documents read."""

from __future__ import annotations

__all__ = [
    "DISCOVERY_PATH",
    "ENDPOINT_SLICES_PATH",
    "JWKS_PATH",
    "ApiServerEndpoint",
    "IssuerDocuments",
    "ServiceAccountName",
    "endpoints_of",
    "failure",
    "max_age_seconds",
    "status_of",
    "warnings_of",
]

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from wif.core.flow import Response
from wif.edges.stores import WriteConflict
from wif.errors import RefusedError, UnavailableError, WifError

DISCOVERY_PATH, JWKS_PATH = "/.well-known/openid-configuration", "/openid/v1/jwks"
"""The API server's own paths; ``core.discovery`` has them too, but loads a JWT library, which no exchange may."""

ENDPOINT_SLICES_PATH = (
    "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
    "?labelSelector=kubernetes.io%2Fservice-name%3Dkubernetes"
)
"""Where the API servers of a cluster announce themselves."""

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_WARNING = re.compile(r'299 (?:-|\S+) "((?:[^"\\]|\\.)*)"')
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=(\d{1,9})(?=$|[\s,])", re.IGNORECASE)
_SUBJECT = re.compile(r"system:serviceaccount:([a-z0-9.-]{1,253}):([a-z0-9.-]{1,253})")


class ApiServerEndpoint(NamedTuple):
    """Where one API server of the cluster listens."""

    address: str
    """IPv4 or IPv6, without brackets."""
    port: int


class ServiceAccountName(NamedTuple):
    """Who a ServiceAccount's token speaks for."""

    namespace: str
    name: str

    @classmethod
    def from_subject(cls, subject: str) -> ServiceAccountName | None:
        """Read ``system:serviceaccount:NAMESPACE:NAME``; None where it is something else."""
        match = _SUBJECT.fullmatch(subject)
        return cls(match[1], match[2]) if match else None


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerDocuments:
    """An API server's own discovery document and key set, byte for byte."""

    discovery: bytes = field(repr=False)
    jwks: bytes = field(repr=False)
    max_age_seconds: int | None
    """Of the key set's Cache-Control: Kubernetes' word that no key signs before it was served for so long."""


def status_of(answer: Response) -> tuple[str, str]:
    """Reason and message of Kubernetes' Status object."""
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or value.get("kind") != "Status":
        return "Unknown", "the answer is no Status object"
    return _text(value.get("reason") or "Unknown"), _text(value.get("message") or "no message")


def failure(answer: Response, *, method: str, path: str, server: str) -> WifError:
    """The error that an answer other than 2xx is.

    :class:`~wif.edges.stores.WriteConflict` for 409; RefusedError ``cluster-refused`` for what another try cannot
    change, the missing right named in its hint; UnavailableError ``cluster-unavailable`` for 401, 429 and 5xx.
    ``status`` and ``cloud_code`` (Kubernetes' reason) are set on all.
    """
    reason, message = status_of(answer)
    what = f"{method} {urlsplit(path).path} at {server}: {answer.status} {reason}: {message}"
    retry_after = answer.headers.get("retry-after", "")
    error: WifError
    if answer.status == 409:
        error = WriteConflict(what)
        error.status, error.cloud_code = answer.status, reason
        return error
    if answer.status in (401, 429) or answer.status >= 500 or answer.status < 400:
        hint = "check the credentials: the API server does not know this caller" if answer.status == 401 else None
        return UnavailableError(
            what,
            code="cluster-unavailable",
            hint=hint,
            status=answer.status,
            cloud_code=reason,
            retryable=answer.status == 429 or answer.status >= 500,
            retry_after_seconds=float(retry_after) if retry_after.isascii() and retry_after.isdigit() else None,
        )
    return RefusedError(
        what, code="cluster-refused", hint=_hint(answer.status, method, path), status=answer.status, cloud_code=reason
    )


def _hint(status: int, method: str, path: str) -> str | None:
    if status == 403:
        return f"grant this caller {_right(method, path)}"
    return {
        404: "create the namespace and the object first, and check their names for a slip",
        413: "make the object smaller: the API server takes no more",
    }.get(status, "correct what the API server names")


def _right(method: str, path: str) -> str:
    """The RBAC rule that a request needs, in words."""
    query = parse_qs(urlsplit(path).query)
    segments = urlsplit(path).path.strip("/").split("/")
    if segments[0] == "api" and len(segments) > 2:
        group, rest = "", segments[2:]
    elif segments[0] == "apis" and len(segments) > 3:
        group, rest = segments[1], segments[3:]
    else:
        verb = "get" if method == "GET" else method.lower()
        return f"the verb {verb} on the nonResourceURL {urlsplit(path).path} (a ClusterRole and a ClusterRoleBinding)"
    namespace = None
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    resource, name = "/".join([rest[0], *rest[2:]]), rest[1] if len(rest) > 1 else None
    verb = _VERBS.get(method) or ("get" if name else "watch" if "watch" in query else "list")
    if name is None:  # the API server takes this selector for a name
        name = query.get("fieldSelector", [""])[0].partition("metadata.name=")[2] or None
    words = f"the verb {verb} on the resource {resource} of the API group {group!r}"
    if name:
        words += f" named {name!r}"
    if namespace:
        return f"{words} in the namespace {namespace!r} (a Role and a RoleBinding)"
    return f"{words} (a ClusterRole and a ClusterRoleBinding)"


def warnings_of(answer: Response) -> tuple[str, ...]:
    """The texts of the header ``Warning`` (RFC 7234, code 299), as the API server sends them."""
    return tuple(
        _text(re.sub(r"\\(.)", r"\1", match[1])) for match in _WARNING.finditer(answer.headers.get("warning", ""))
    )


def max_age_seconds(answer: Response) -> int | None:
    """``max-age`` of the header Cache-Control; None where it has none."""
    match = _MAX_AGE.search(answer.headers.get("cache-control", ""))
    return int(match[1]) if match else None


def endpoints_of(slices: Mapping[str, Any], *, ready: bool | None = True) -> tuple[ApiServerEndpoint, ...]:
    """The addresses of an EndpointSliceList, of all families, each once, on the port ``https``.

    Args:
        slices: the list, as the API server answers.
        ready: True for those that are ready (or do not say), False for the others, None for all.

    Raises:
        UnavailableError: cluster-unavailable where it is no such list.
    """
    found: dict[ApiServerEndpoint, None] = {}
    try:
        for each in slices["items"]:
            if each.get("addressType") not in ("IPv4", "IPv6"):
                continue  # FQDN is deprecated, and nothing says which address is meant
            ports = [port for port in each.get("ports") or () if port.get("name") == "https"]
            ports = ports or [port for port in each.get("ports") or () if not port.get("name")]
            for endpoint in each.get("endpoints") or ():
                if ready is not None and ((endpoint.get("conditions") or {}).get("ready") is not False) != ready:
                    continue
                for address in endpoint["addresses"]:
                    for port in ports:
                        found[ApiServerEndpoint(str(ipaddress.ip_address(address)), int(port["port"]))] = None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnavailableError(
            "the EndpointSlices of default/kubernetes cannot be read", code="cluster-unavailable"
        ) from error
    return tuple(found)


def _text(value: object) -> str:
    return "".join(c if c.isprintable() else " " for c in str(value)[:500])
